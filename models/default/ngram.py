"""A baseline: an n-gram model with interpolated Kneser-Ney smoothing, one discount an order (Chen and Goodman, 1998)."""
import numpy as np

BITS = 12  # of a token: five fit into 64 bits


class NGram:
    def __init__(self, tokens, order=5):
        tokens = tokens.astype(np.int64)
        assert tokens.max() < 1 << BITS and order * BITS < 64
        keys, counts = np.unique(windows(tokens, order), return_counts=True)
        self.orders = []
        for n in range(order, 0, -1):
            self.orders.insert(0, Order(keys, counts))
            # Below the highest order an n-gram counts once for every token that was seen before it.
            keys, counts = np.unique(keys & ((1 << BITS * (n - 1)) - 1), return_counts=True)

    def log_probabilities(self, context, tokens):
        """ln p of each of `tokens` after the ones before it; `context` stands before the first."""
        whole = np.concatenate([np.asarray(context, np.int64), np.asarray(tokens, np.int64)])
        at = np.arange(len(context), len(whole))
        p = np.full(len(at), 2.0**-BITS)
        for n, order in enumerate(self.orders, 1):
            known = at >= n - 1
            key = sum(whole[at[known] - back] << BITS * back for back in range(n))
            p[known] = order.probability(key, p[known])
        return np.log(p)


class Order:
    def __init__(self, keys, counts):
        self.keys, self.counts = keys, counts
        self.contexts, first = np.unique(keys >> BITS, return_index=True)
        self.totals = np.add.reduceat(counts, first)
        self.followers = np.diff(np.append(first, len(keys)))
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        self.discount = once / (once + 2 * twice) if once else 0.5

    def probability(self, key, below):
        count = look_up(self.keys, self.counts, key)
        total = look_up(self.contexts, self.totals, key >> BITS)
        followers = look_up(self.contexts, self.followers, key >> BITS)
        p = (np.maximum(count - self.discount, 0) + self.discount * followers * below) / np.maximum(total, 1)
        return np.where(total > 0, p, below)


def windows(tokens, n):
    return sum(tokens[i : len(tokens) - n + 1 + i] << BITS * (n - 1 - i) for i in range(n))


def look_up(keys, values, wanted):
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
