// What the mock server says: every kind of Markdown that the page shows.

export const SHORT = "The tide turns twice a day, and a harbour that knows when needs no luck to let its ships out.";

export const CODE = `Here is a bounded queue that never grows past what it was given:

\`\`\`rust
use std::collections::VecDeque;

/// A queue of at most \`limit\` entries.
pub struct Bounded<T> {
    entries: VecDeque<T>,
    limit: usize, // entries, not bytes
}

impl<T> Bounded<T> {
    pub fn push(&mut self, entry: T) -> Result<(), T> {
        if self.entries.len() == self.limit {
            return Err(entry);
        }
        self.entries.push_back(entry);
        Ok(())
    }
}
\`\`\`

The same in Python:

\`\`\`python
from collections import deque

def push(entries: deque, entry, limit=16):
    """Adds an entry, or says that it does not fit."""
    if len(entries) >= limit:
        raise OverflowError(f"full: {limit}")
    entries.append(entry)  # newest last
\`\`\`

\`push\` gives the entry back when the queue is full, so **nothing is lost** without the caller knowing.
`;

export const ANSWER = `## What a KV cache is for

When a model writes, every new token looks back at all the tokens before it. Computing the *keys* and *values* of those
again for each step would make the work grow with the square of the length, so they are **kept**: that is the KV cache.

Its size follows from the model's shape:

| Model | Layers | KV heads | Head size | Per token |
| --- | ---: | ---: | ---: | ---: |
| Llama 3.2 1B | 16 | 8 | 64 | 32 kB |
| Qwen3 4B | 36 | 8 | 128 | 144 kB |
| Mistral 7B | 32 | 8 | 128 | 128 kB |

Three things follow from that:

1. **Memory is the limit, not arithmetic.** A context of 32k tokens at 144 kB each is 4.7 GB.
2. **Sharing pays.** Two requests with the same first tokens can share those blocks:
   - a system prompt that every chat begins with;
   - the turns of a conversation before its last message.
3. **Freed is not erased.** A block stays until something else needs its place.

> A cache that is paged, rather than reserved, wastes less than one block a sequence.

The number of bytes is \`2 × layers × heads × size × bytes\`, as in this small function:

\`\`\`ts
// Bytes of KV cache for one token.
export function bytesPerToken(layers: number, heads: number, size: number, width = 2): number {
  return 2 * layers * heads * size * width;
}
\`\`\`

- [x] Count the blocks
- [ ] Share the prefixes

For more, see the [paper on paged attention](https://arxiv.org/abs/2309.06180). <b>Tags are text here</b>, and so is
<script>alert("this")</script>.
`;
