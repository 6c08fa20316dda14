// Helpers shared by the kernels: versions of a loop for several instruction sets, sort keys.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <type_traits>
#include <vector>

// A library built anywhere must run anywhere, so hot loops are compiled once for each instruction
// set and the loader picks one. That needs ELF ifuncs, hence glibc.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define UNIDET_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define UNIDET_CLONES
#endif

#if defined(_WIN32)
#define UNIDET_EXPORT extern "C" __declspec(dllexport)
#else
#define UNIDET_EXPORT extern "C" __attribute__((visibility("default")))
#endif

#define UNIDET_INLINE inline __attribute__((always_inline))

// Exceptions must not cross the C ABI.
#define UNIDET_GUARD(call)          \
    try {                           \
        return call;                \
    } catch (const std::exception&) { \
        return -1;                  \
    }

namespace unidet {

// Corners and areas as separate arrays, padded so that whole vectors can be read at the end.
template <class T>
struct Boxes {
    std::vector<T> x1, y1, x2, y2, area;
    int64_t count = 0;

    explicit Boxes(int64_t n) : x1(n), y1(n), x2(n), y2(n), area(n) {}

    void push(const T* box) {
        x1[count] = box[0];
        y1[count] = box[1];
        x2[count] = box[2];
        y2[count] = box[3];
        area[count] = (box[2] - box[0]) * (box[3] - box[1]);
        ++count;
    }

    void move(int64_t from, int64_t to) {
        x1[to] = x1[from];
        y1[to] = y1[from];
        x2[to] = x2[from];
        y2[to] = y2[from];
        area[to] = area[from];
    }
};

// Intersection over union; 0/0 gives NaN, which compares as "no overlap" everywhere below. The
// order of the operations is the contract: NumPy in the same dtype gives the same bits.
template <class T>
UNIDET_INLINE T overlap(T ax1, T ay1, T ax2, T ay2, T aarea, T bx1, T by1, T bx2, T by2, T barea) {
    const T left = ax1 > bx1 ? ax1 : bx1;
    const T top = ay1 > by1 ? ay1 : by1;
    const T right = ax2 < bx2 ? ax2 : bx2;
    const T bottom = ay2 < by2 ? ay2 : by2;
    const T width = right - left > T(0) ? right - left : T(0);
    const T height = bottom - top > T(0) ? bottom - top : T(0);
    const T inter = width * height;
    return inter / (aarea + barea - inter);
}

// Overlaps of one box with each of `n` boxes.
template <class T>
UNIDET_INLINE void overlaps(T ax1, T ay1, T ax2, T ay2, T aarea, const T* __restrict x1,
                            const T* __restrict y1, const T* __restrict x2,
                            const T* __restrict y2, const T* __restrict area, T* __restrict out,
                            int64_t n) {
    for (int64_t j = 0; j < n; ++j)
        out[j] = overlap(ax1, ay1, ax2, ay2, aarea, x1[j], y1[j], x2[j], y2[j], area[j]);
}

// Largest value in independent lanes: without leave to reorder, a plain maximum stays scalar. NaN
// is passed over; -infinity where nothing is left.
template <class T>
UNIDET_INLINE T largest(const T* values, int64_t n) {
    constexpr int64_t kLanes = 16;
    T lanes[kLanes];
    for (T& lane : lanes) lane = -INFINITY;
    int64_t j = 0;
    for (; j + kLanes <= n; j += kLanes)
        for (int64_t l = 0; l < kLanes; ++l)
            lanes[l] = values[j + l] > lanes[l] ? values[j + l] : lanes[l];
    T best = -INFINITY;
    for (; j < n; ++j) best = values[j] > best ? values[j] : best;
    for (const T lane : lanes) best = lane > best ? lane : best;
    return best;
}

// Unsigned key that rises as the score falls; NaN comes last, -0 equals +0.
UNIDET_INLINE uint32_t falling_key(float score) {
    if (score != score) return UINT32_MAX;
    const float canonical = score + 0.0f;
    uint32_t bits;
    std::memcpy(&bits, &canonical, sizeof bits);
    return (bits >> 31) ? bits : 0x7fffffffu - bits;
}

UNIDET_INLINE uint64_t falling_key(double score) {
    if (score != score) return UINT64_MAX;
    const double canonical = score + 0.0;
    uint64_t bits;
    std::memcpy(&bits, &canonical, sizeof bits);
    return (bits >> 63) ? bits : 0x7fffffffffffffffull - bits;
}

// Indices by falling score, then rising index.
template <class T>
std::vector<int64_t> falling_order(const T* scores, int64_t n) {
    struct Entry {
        decltype(falling_key(T())) key;
        uint32_t index;
        bool operator<(const Entry& other) const {
            return key != other.key ? key < other.key : index < other.index;
        }
    };
    std::vector<Entry> entries(n);
    for (int64_t i = 0; i < n; ++i) entries[i] = {falling_key(scores[i]), uint32_t(i)};
    std::sort(entries.begin(), entries.end());
    std::vector<int64_t> order(n);
    for (int64_t i = 0; i < n; ++i) order[i] = entries[i].index;
    return order;
}

}  // namespace unidet
