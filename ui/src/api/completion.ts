// A streamed chat completion.
import { ApiError, call, messageIn } from "./client";
import { EventParser } from "./sse";
import type { Timings, Usage } from "./types";

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

/** Sampling settings; what is absent is the server's choice. */
export interface Sampling {
  temperature?: number;
  top_p?: number;
  top_k?: number;
  max_tokens?: number;
  seed?: number;
  stop?: string[];
}

/** What one event of the stream adds. */
export interface Piece {
  content?: string;
  reasoning?: string;
  toolCalls?: { index: number; id?: string; name?: string; arguments?: string }[];
  finish?: string;
  usage?: Usage;
  timings?: Timings;
}

/** Asks for an answer and gives its pieces as they come, several at once where they came at once. */
export async function complete(
  model: string,
  messages: ChatMessage[],
  sampling: Sampling,
  abort: AbortSignal,
  take: (pieces: Piece[]) => void,
): Promise<void> {
  const response = await call("v1/chat/completions", {
    method: "POST",
    signal: abort,
    headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify({ model, messages, stream: true, stream_options: { include_usage: true }, ...sampling }),
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventParser();
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const pieces: Piece[] = [];
      for (const data of parser.push(value)) {
        if (data === "[DONE]") ended = true;
        else pieces.push(pieceOf(data));
      }
      if (pieces.length > 0) take(pieces);
      if (ended) break;
    }
  } catch (error) {
    if (error instanceof ApiError || abort.aborted) throw error;
    if (error instanceof RangeError || error instanceof SyntaxError) throw new ApiError(`The answer cannot be read: ${error.message}.`, 502);
    throw new ApiError("The connection to the server was lost in the middle of the answer.", 0);
  } finally {
    reader.cancel().catch(() => {});
  }
  if (!ended) throw new ApiError("The answer ended in the middle: the server closed the connection.", 0);
}

/** Reads the data of one event. Throws what the server sent as an error. */
export function pieceOf(data: string): Piece {
  const chunk = JSON.parse(data) as Record<string, unknown> | null;
  const said = messageIn(chunk);
  if (said) throw new ApiError(said, 500);
  const piece: Piece = {};
  const choice = (chunk?.choices as Record<string, unknown>[] | undefined)?.[0];
  const delta = choice?.delta as Record<string, unknown> | undefined;
  if (typeof delta?.content === "string") piece.content = delta.content;
  if (typeof delta?.reasoning_content === "string") piece.reasoning = delta.reasoning_content;
  if (Array.isArray(delta?.tool_calls)) {
    piece.toolCalls = delta.tool_calls.map((call: Record<string, any>) => ({
      index: Number(call.index) || 0,
      id: call.id,
      name: call.function?.name,
      arguments: call.function?.arguments,
    }));
  }
  if (typeof choice?.finish_reason === "string") piece.finish = choice.finish_reason;
  if (chunk?.usage) piece.usage = chunk.usage as Usage;
  if (chunk?.timings) piece.timings = chunk.timings as Timings;
  return piece;
}
