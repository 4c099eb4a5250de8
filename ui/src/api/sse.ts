// Server-sent events: text in pieces in, the data of whole events out.

/** No event is longer, in characters. */
const MAX_EVENT = 4 << 20;

export class EventParser {
  /** Pieces of the line that has not ended. */
  private line: string[] = [];
  /** At least the length of what is held; pieces of lines count twice. */
  private length = 0;
  private data: string[] = [];
  private afterReturn = false;

  /** The data of the events that `chunk` completes. Throws a RangeError for an event without end. */
  push(chunk: string): string[] {
    const events: string[] = [];
    let from = 0;
    if (this.afterReturn && chunk.startsWith("\n")) from = 1;
    if (chunk !== "") this.afterReturn = chunk.endsWith("\r");
    const ends = /\r\n|\r|\n/g;
    ends.lastIndex = from;
    for (let end = ends.exec(chunk); end; end = ends.exec(chunk)) {
      this.line.push(chunk.slice(from, end.index));
      from = ends.lastIndex;
      this.endLine(this.line.join(""), events);
      this.line = [];
    }
    if (from < chunk.length) {
      this.line.push(chunk.slice(from));
      this.length += chunk.length - from;
    }
    if (this.length > MAX_EVENT) throw new RangeError("an event of the stream has no end");
    return events;
  }

  private endLine(line: string, events: string[]): void {
    if (line === "") {
      if (this.data.length > 0) events.push(this.data.join("\n"));
      this.data = [];
      this.length = 0;
    } else if (line.startsWith("data:")) {
      this.data.push(line.slice(line[5] === " " ? 6 : 5));
      this.length += line.length;
    }
    // Comments, names and ids of events mean nothing here.
  }
}
