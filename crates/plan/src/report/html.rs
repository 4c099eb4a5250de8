//! How a page is written.

use std::fmt::Write;

use super::{Block, Cell, Page, Table};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

impl Page {
    /// The page as one file.
    pub fn html(&self) -> String {
        let mut out = String::new();
        let title = escape(&self.title);
        // The policy keeps a browser from asking anybody for anything, whatever the text holds.
        let _ = write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
             <body>\n<main>\n<h1>{title}</h1>\n<p class=\"lead\">{}</p>\n",
            self.prose(&self.lead)
        );
        let mut charts = 0;
        for section in &self.sections {
            let _ = write!(out, "<section>\n<h2>{}</h2>\n", escape(&section.heading));
            for block in &section.blocks {
                self.block(&mut out, block, &mut charts);
            }
            out += "</section>\n";
        }
        if !self.notes().is_empty() {
            out += "<section>\n<h2>Sources</h2>\n<ol class=\"notes\">\n";
            for (i, note) in self.notes().iter().enumerate() {
                let _ = writeln!(out, "<li id=\"note-{}\">{}</li>", i + 1, escape(note));
            }
            out += "</ol>\n</section>\n";
        }
        let _ = write!(
            out,
            "</main>\n<div id=\"tip\" hidden></div>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
        );
        out
    }

    fn block(&self, out: &mut String, block: &Block, charts: &mut usize) {
        match block {
            Block::Text(text) => {
                let _ = writeln!(out, "<p>{}</p>", self.prose(text));
            }
            Block::List(points) => {
                out.push_str("<ul>\n");
                for point in points {
                    let _ = writeln!(out, "<li>{}</li>", self.prose(point));
                }
                out.push_str("</ul>\n");
            }
            Block::Table(table) => self.table(out, table),
            Block::Bars(bars) => chart(out, "bars", &bars.title, serde_json::to_string(bars), charts),
            Block::Curves(curves) => {
                chart(out, "curves", &curves.title, serde_json::to_string(curves), charts)
            }
        }
    }

    fn table(&self, out: &mut String, table: &Table) {
        out.push_str("<div class=\"wide\"><table>\n<thead><tr>");
        for column in &table.columns {
            let class = if column.number { " class=\"n\"" } else { "" };
            let _ = write!(
                out,
                "<th{class} aria-sort=\"none\"><button type=\"button\">{}</button></th>",
                escape(&column.heading)
            );
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for row in &table.rows {
            out.push_str("<tr>");
            for cell in row {
                let _ = match cell {
                    Cell::Text(text) => write!(out, "<td>{}</td>", self.prose(text)),
                    Cell::Number(value, shown) => {
                        write!(out, "<td class=\"n\" data-value=\"{value}\">{}</td>", self.prose(shown))
                    }
                    Cell::Unknown => write!(out, "<td class=\"unknown\">unknown</td>"),
                };
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table></div>\n");
        if !table.caption.is_empty() {
            let _ = writeln!(out, "<p class=\"caption\">{}</p>", self.prose(&table.caption));
        }
    }

    /// Escaped text in which `[3]` leads to the third note, where there is one.
    fn prose(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('[') {
            out += &escape(before);
            let digits = after.split_once(']').filter(|(inside, _)| {
                inside.len() <= 6
                    && inside.parse::<usize>().is_ok_and(|n| (1..=self.notes().len()).contains(&n))
            });
            match digits {
                Some((n, after)) => {
                    let _ = write!(out, "<sup><a href=\"#note-{n}\">{n}</a></sup>");
                    rest = after;
                }
                None => {
                    out.push('[');
                    rest = after;
                }
            }
        }
        out + &escape(rest)
    }
}

fn chart(out: &mut String, kind: &str, title: &str, data: serde_json::Result<String>, charts: &mut usize) {
    // JSON has no NaN, so this fails on none of its types; a chart without data is an empty frame.
    let data = data.unwrap_or_default();
    // Inside a script element only `<` can end it, and JSON may write that as an escape.
    let data = data.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    *charts += 1;
    let _ = write!(
        out,
        "<figure class=\"chart\" data-kind=\"{kind}\">\n<figcaption>{}</figcaption>\n\
         <script type=\"application/json\">{data}</script>\n</figure>\n",
        escape(title)
    );
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // Controls have no place in a page.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Bar, Bars, Column, Curve, Curves, Point, Section};
    use super::*;

    const BAD: &str = "</script><script>alert('x')</script>\"<img src=x onerror=y>&\u{0}";

    fn page() -> Page {
        let mut page = Page::new(BAD, BAD);
        let note = page.note(BAD);
        assert_eq!(page.note(BAD), note);
        page.sections.push(Section::new(
            BAD,
            [
                Block::Text(format!("{BAD} [{note}] [2] [x]")),
                Block::List(vec![BAD.to_owned()]),
                Block::Table(Table {
                    columns: vec![Column::text(BAD), Column::number("n")],
                    rows: vec![
                        vec![Cell::text(BAD), Cell::number(2.5)],
                        vec![Cell::Unknown, Cell::number(f64::NAN)],
                    ],
                    caption: BAD.to_owned(),
                }),
                Block::Bars(Bars {
                    title: BAD.to_owned(),
                    unit: BAD.to_owned(),
                    bars: vec![Bar {
                        label: BAD.to_owned(),
                        value: f64::NAN,
                        interval: None,
                        note: BAD.to_owned(),
                    }],
                    mark: Some((1.0, 2.0, BAD.to_owned())),
                }),
                Block::Curves(Curves {
                    title: BAD.to_owned(),
                    x: BAD.to_owned(),
                    y: BAD.to_owned(),
                    curves: vec![Curve {
                        name: BAD.to_owned(),
                        points: vec![Point {
                            x: 1.0,
                            y: 2.0,
                            interval: Some((1.0, 3.0)),
                            note: BAD.to_owned(),
                        }],
                    }],
                }),
            ],
        ));
        page
    }

    #[test]
    fn no_text_gets_out_of_its_place() {
        let html = page().html();
        assert!(!html.contains("<img") && !html.contains("<script>alert") && !html.contains('\u{0}'));
        assert_eq!(html.matches("</script>").count(), 3);
        assert_eq!(html.matches("<script").count(), 3);
    }

    #[test]
    fn references_lead_to_notes_that_are_there() {
        let html = page().html();
        assert!(html.contains("<sup><a href=\"#note-1\">1</a></sup> [2] [x]"));
    }

    #[test]
    fn nothing_is_asked_of_others() {
        let html = Page::new("a", "b").html();
        let own = html.replace("http://www.w3.org/2000/svg", "");
        for part in ["http:", "https:", "src=", "url(", "import", "fetch"] {
            assert!(!own.contains(part), "{part}");
        }
    }
}
