// The inner parts of RoIAlign: lists of taps, their application over channels, transposition.
#pragma once

#include <cmath>

#include "vector.h"

namespace unidet {

// For each of `begin.size() - 1` targets along one axis, from number `first` on, the sources that
// it is made of and their weights.
template <class T>
struct Taps {
    int64_t first = 0;
    std::vector<int32_t> begin, index;
    std::vector<T> weight;

    void add(int64_t source, T value) {
        // Neighbouring samples share pixels.
        const int64_t end = int64_t(index.size());
        for (int64_t k = end - 1; k >= begin.back() && k >= end - 2; --k)
            if (index[k] == source) {
                weight[k] += value;
                return;
            }
        index.push_back(int32_t(source));
        weight.push_back(value);
    }
};

// Bilinear samples of `bins` cells between `low` and `high` on an axis of `extent` pixels. The order
// of the operations is that of the published kernels: where a sample counts as outside, and how
// many there are, must not hang on a rounding.
template <class T>
Taps<T> sampled(T low, T high, int64_t bins, int64_t extent, int64_t sampling, bool aligned,
                double& samples) {
    T length = high - low;
    if (!aligned) length = std::max(length, T(1));
    const T bin = length / T(bins);
    const T grid = sampling > 0 ? T(sampling) : std::ceil(length / T(bins));
    samples = double(grid);
    Taps<T> taps;
    taps.begin.reserve(bins + 1);
    taps.index.reserve(4 * bins);
    taps.weight.reserve(4 * bins);
    for (int64_t b = 0; b < bins; ++b) {
        taps.begin.push_back(int32_t(taps.index.size()));
        const T edge = low + T(b) * bin;
        double from = 0, to = std::max(double(grid), 0.0);
        const double step = double(bin) / double(grid);
        if (to > 64 && step > 0) {
            // Of a box that is far larger than the map, most samples lie outside.
            from = std::min(to, std::max(0.0, std::floor((-1.0 - edge) / step) - 2));
            to = std::max(from, std::min(to, std::ceil((double(extent) - edge) / step) + 2));
        }
        for (int64_t k = int64_t(from); k < int64_t(to); ++k) {
            T at = edge + (T(k) + T(0.5)) * bin / grid;
            if (!(at >= T(-1) && at <= T(extent))) continue;
            at = std::max(at, T(0));
            int64_t cell = int64_t(at);
            if (cell >= extent - 1) {
                taps.add(extent - 1, T(1));
                continue;
            }
            const T beyond = at - T(cell);
            taps.add(cell, T(1) - beyond);
            if (beyond > T(0)) taps.add(cell + 1, beyond);
        }
    }
    taps.begin.push_back(int32_t(taps.index.size()));
    return taps;
}

// The same weights with sources and targets exchanged, over the span of sources that occur.
template <class T>
Taps<T> flipped(const Taps<T>& taps, int64_t extent) {
    Taps<T> result;
    int64_t low = extent, high = 0;
    for (const int32_t source : taps.index) {
        low = std::min<int64_t>(low, source);
        high = std::max<int64_t>(high, source + 1);
    }
    const int64_t count = std::max<int64_t>(high - low, 0);
    result.first = count ? low : 0;
    result.begin.assign(count + 1, 0);
    for (const int32_t source : taps.index) ++result.begin[source - low + 1];
    for (int64_t i = 0; i < count; ++i) result.begin[i + 1] += result.begin[i];
    std::vector<int32_t> next(result.begin);
    result.index.resize(taps.index.size());
    result.weight.resize(taps.index.size());
    for (int64_t b = 0; b + 1 < int64_t(taps.begin.size()); ++b)
        for (int32_t k = taps.begin[b]; k < taps.begin[b + 1]; ++k) {
            const int32_t place = next[taps.index[k] - low]++;
            result.index[place] = int32_t(b);
            result.weight[place] = taps.weight[k];
        }
    return result;
}

// Pixels with their channels innermost; distances are in elements.
template <class T>
struct Image {
    T* data;
    int64_t row, column;
    Image at(int64_t channel) const { return {data + channel, row, column}; }
};

template <class T>
struct View {
    const int32_t *begin, *index;
    const T* weight;
};

// 64 bytes of channels. Vectors of the compiler, since a local array would live in memory.
template <class T>
struct Pack;
#if defined(__GNUC__)
template <>
struct Pack<float> {
    typedef float Type __attribute__((vector_size(64)));
};
template <>
struct Pack<double> {
    typedef double Type __attribute__((vector_size(64)));
};
#else
template <class T, int N>
struct Lanes {
    T lane[N];
    Lanes operator*(T factor) const {
        Lanes result;
        for (int i = 0; i < N; ++i) result.lane[i] = lane[i] * factor;
        return result;
    }
    void operator+=(const Lanes& other) {
        for (int i = 0; i < N; ++i) lane[i] += other.lane[i];
    }
};
template <>
struct Pack<float> {
    typedef Lanes<float, 16> Type;
};
template <>
struct Pack<double> {
    typedef Lanes<double, 8> Type;
};
#endif

// One pixel of the target, COUNT packs of channels: the sum stays in registers over all taps.
template <class T, int COUNT>
UNIDET_INLINE void gather(const View<T>& y, const View<T>& x, int64_t i, int64_t j,
                          const Image<const T>& in, T* out, bool add) {
    typename Pack<T>::Type sum[COUNT];
    constexpr int64_t kLanes = sizeof(sum[0]) / sizeof(T);
    if (add)
        std::memcpy(sum, out, sizeof sum);
    else
        std::memset(sum, 0, sizeof sum);
    for (int32_t a = y.begin[i]; a < y.begin[i + 1]; ++a) {
        const T* line = in.data + y.index[a] * in.row;
        for (int32_t b = x.begin[j]; b < x.begin[j + 1]; ++b) {
            const T* from = line + x.index[b] * in.column;
            const T weight = y.weight[a] * x.weight[b];
            for (int k = 0; k < COUNT; ++k) {
                typename Pack<T>::Type value;
                std::memcpy(&value, from + k * kLanes, sizeof value);
                sum[k] += value * weight;
            }
        }
    }
    std::memcpy(out, sum, sizeof sum);
}

template <class T>
UNIDET_INLINE void gather_rest(const View<T>& y, const View<T>& x, int64_t i, int64_t j,
                               const Image<const T>& in, T* out, int64_t channels, bool add) {
    for (int64_t c = 0; c < channels; ++c) {
        T sum = add ? out[c] : T(0);
        for (int32_t a = y.begin[i]; a < y.begin[i + 1]; ++a)
            for (int32_t b = x.begin[j]; b < x.begin[j + 1]; ++b)
                sum += in.data[y.index[a] * in.row + x.index[b] * in.column + c] *
                       (y.weight[a] * x.weight[b]);
        out[c] = sum;
    }
}

template <class T>
UNIDET_INLINE void gather_all(View<T> y, View<T> x, int64_t rows, int64_t columns, Image<const T> in,
                              Image<T> out, int64_t channels, bool add) {
    constexpr int64_t kLanes = 64 / sizeof(T);
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) {
            T* to = out.data + i * out.row + j * out.column;
            if (add && (y.begin[i] == y.begin[i + 1] || x.begin[j] == x.begin[j + 1])) continue;
            int64_t c = 0;
            for (; c + 4 * kLanes <= channels; c += 4 * kLanes)
                gather<T, 4>(y, x, i, j, in.at(c), to + c, add);
            for (; c + kLanes <= channels; c += kLanes)
                gather<T, 1>(y, x, i, j, in.at(c), to + c, add);
            if (c < channels) gather_rest(y, x, i, j, in.at(c), to + c, channels - c, add);
        }
}

// out[j][i] = in[i][j], in squares that fill whole vectors.
template <class T>
UNIDET_INLINE void transpose_square(const T* in, int64_t in_row, T* out, int64_t out_row) {
#if defined(__GNUC__) && !defined(__clang__)
    using Index = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
    typedef T Four __attribute__((vector_size(4 * sizeof(T))));
    typedef Index Mask __attribute__((vector_size(4 * sizeof(T))));
    Four a, b, c, d;
    std::memcpy(&a, in, sizeof a);
    std::memcpy(&b, in + in_row, sizeof b);
    std::memcpy(&c, in + 2 * in_row, sizeof c);
    std::memcpy(&d, in + 3 * in_row, sizeof d);
    const Mask low = {0, 4, 1, 5}, high = {2, 6, 3, 7};
    const Four ac = __builtin_shuffle(a, c, low), ac2 = __builtin_shuffle(a, c, high);
    const Four bd = __builtin_shuffle(b, d, low), bd2 = __builtin_shuffle(b, d, high);
    a = __builtin_shuffle(ac, bd, low);
    b = __builtin_shuffle(ac, bd, high);
    c = __builtin_shuffle(ac2, bd2, low);
    d = __builtin_shuffle(ac2, bd2, high);
    std::memcpy(out, &a, sizeof a);
    std::memcpy(out + out_row, &b, sizeof b);
    std::memcpy(out + 2 * out_row, &c, sizeof c);
    std::memcpy(out + 3 * out_row, &d, sizeof d);
#else
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) out[j * out_row + i] = in[i * in_row + j];
#endif
}

template <class T>
UNIDET_INLINE void transpose_all(const T* in, int64_t in_row, T* out, int64_t out_row, int64_t rows,
                                 int64_t columns) {
    constexpr int64_t kLine = 64 / sizeof(T);
    for (int64_t j = 0; j < columns; j += kLine) {
        const int64_t end = std::min(j + kLine, columns);
        int64_t i = 0;
        for (; i + 4 <= rows; i += 4) {
            int64_t k = j;
            for (; k + 4 <= end; k += 4)
                transpose_square(in + i * in_row + k, in_row, out + k * out_row + i, out_row);
            for (; k < end; ++k)
                for (int64_t l = i; l < i + 4; ++l) out[k * out_row + l] = in[l * in_row + k];
        }
        for (; i < rows; ++i)
            for (int64_t k = j; k < end; ++k) out[k * out_row + i] = in[i * in_row + k];
    }
}

#define UNIDET_ROI_PARTS(T)                                                                        \
    UNIDET_CLONES inline void gather_taps(View<T> y, View<T> x, int64_t rows, int64_t columns,     \
                                          Image<const T> in, Image<T> out, int64_t channels,       \
                                          bool add) {                                              \
        gather_all<T>(y, x, rows, columns, in, out, channels, add);                                \
    }                                                                                              \
    UNIDET_CLONES inline void transpose(const T* in, int64_t in_row, T* out, int64_t out_row,      \
                                        int64_t rows, int64_t columns) {                           \
        transpose_all<T>(in, in_row, out, out_row, rows, columns);                                 \
    }
UNIDET_ROI_PARTS(float)
UNIDET_ROI_PARTS(double)

// Writes the targets of `y` and `x` into `out`, or adds them to it.
template <class T>
void apply(const Taps<T>& y, const Taps<T>& x, Image<const T> in, Image<T> out, int64_t channels,
           bool add) {
    out.data += y.first * out.row + x.first * out.column;
    gather_taps({y.begin.data(), y.index.data(), y.weight.data()},
                {x.begin.data(), x.index.data(), x.weight.data()}, int64_t(y.begin.size()) - 1,
                int64_t(x.begin.size()) - 1, in, out, channels, add);
}

}  // namespace unidet
