// What comes from the server: events in pieces, counters, and numbers as people read them.
import { describe, expect, test } from "vitest";

import { EventParser } from "../src/api/sse";
import { ceiling, pointOf } from "../src/engine/history";
import { bytes, dayOf, seconds, significant, weights } from "../src/shell/format";
import { MarkdownStream } from "../src/markdown/stream";
import { Random } from "./random";

describe("server-sent events", () => {
  const source = 'data: {"a":1}\n\n: comment\r\nevent: x\r\ndata: b\r\ndata: c\r\n\r\ndata:d\r\rdata\n\ndata: [DONE]\n\n';
  const events = ['{"a":1}', "b\nc", "d", "[DONE]"];

  test("the same, wherever the pieces break", () => {
    const random = new Random(5);
    for (let round = 0; round < 200; round++) {
      const parser = new EventParser();
      const got: string[] = [];
      for (let at = 0; at < source.length; ) {
        const end = at + 1 + random.below(7);
        got.push(...parser.push(source.slice(at, end)));
        at = end;
      }
      expect(got).toEqual(events);
    }
  });

  test("an event without end is refused", () => {
    const parser = new EventParser();
    expect(() => {
      for (let n = 0; n < 100; n++) parser.push("x".repeat(1 << 16));
    }).toThrow(RangeError);
    const lines = new EventParser();
    expect(() => {
      for (let n = 0; n < 100; n++) lines.push(`data: ${"x".repeat(1 << 16)}\n`);
    }).toThrow(RangeError);
  });
});

test("an answer of many blocks is not parsed again and again", () => {
  const stream = new MarkdownStream();
  const text = Array.from({ length: 400 }, (_, n) => `Paragraph ${n} of *many*.\n\n- item\n- item\n\n`).join("");
  for (let end = 0; end <= text.length; end += 7) {
    stream.update(text.slice(0, end));
    // What is parsed anew with each piece is the last block or two, however long the answer is.
    expect(JSON.stringify(stream.tail).length).toBeLessThan(600);
  }
  expect(stream.done.length).toBeGreaterThan(790);
});

describe("counters", () => {
  const stats = (prefill: number, decode: number, id = "m") => ({
    time: 0,
    process_bytes: 10,
    models: [{
      id, running: 1, waiting: 2, prefill_tokens: prefill, decode_tokens: decode, cached_tokens: 0, blocks_total: 10,
      blocks_used: 3, blocks_cached: 4, memory_bytes: 5, requests: 0, failed: 0,
    }],
  });

  test("rates come from differences", () => {
    expect(pointOf(stats(100, 10), stats(300, 14), 2, null)).toEqual({
      prefill: 100, decode: 2, running: 1, waiting: 2, used: 3, cached: 4, free: 3, memory: 10,
    });
    expect(pointOf(stats(0, 0), stats(1, 1), 1, "m").memory).toBe(5);
    expect(pointOf(stats(0, 0), stats(1, 1), 1, "other").decode).toBe(0);
  });

  test("a model that was loaded anew, or is new, does not show a rate that never was", () => {
    expect(pointOf(stats(100, 100), stats(1, 1), 1, null).decode).toBe(0);
    expect(pointOf(stats(0, 0, "other"), stats(900, 900), 1, null).prefill).toBe(0);
    expect(pointOf(null, stats(900, 900), 1, null).prefill).toBe(0);
  });

  test.each([[0, 1], [0.3, 0.5], [1, 1], [3, 5], [21, 25], [99, 100], [101, 200]])("the top above %d is %d", (n, top) => {
    expect(ceiling(n)).toBeCloseTo(top);
  });
});

describe("numbers", () => {
  test.each([
    [bytes(0), "0 B"], [bytes(999), "999 B"], [bytes(2_497_280_256), "2.50 GB"], [bytes(999_960), "1 MB"],
    [weights(4.02e9), "4.02B"], [weights(260_032), "260K"], [significant(38.24), "38.2"], [significant(0), "0"],
    [seconds(0.424), "0.42 s"], [seconds(75), "75 s"], [seconds(600), "10 min"],
  ])("%s is %s", (got, expected) => expect(got).toBe(expected));

  test("days", () => {
    const now = new Date(2030, 5, 15, 12);
    const at = (day: number, hour: number) => new Date(2030, 5, day, hour).getTime() / 1000;
    expect([at(15, 1), at(14, 23), at(10, 1), at(1, 1), 0].map((time) => dayOf(time, now))).toEqual([
      "Today", "Yesterday", "Last 7 days", "Last 30 days", "Older",
    ]);
  });
});
