"""Sums over one channel of ``(N, C, H, W)`` in fast and accurate kernels."""

from __future__ import annotations

#: Header that a kernel puts first; ``unidet_sums::total`` adds up ``term(k)`` over a channel.
SUMS_HEADER = r"""
#include <cstdint>

namespace unidet_sums {

// Sums are taken in float over short runs, where they vectorize, and in double over the runs.
const int64_t RUN = 1024;

template <class Term>
inline double total(int64_t n, int64_t c, int64_t channels, int64_t area, Term term) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t base = (i * channels + c) * area;
        for (int64_t start = 0; start < area; start += RUN) {
            const int64_t stop = start + RUN < area ? start + RUN : area;
            float part = 0;
            for (int64_t j = start; j < stop; j++) part += term(base + j);
            sum += part;
        }
    }
    return sum;
}

}  // namespace unidet_sums
"""
