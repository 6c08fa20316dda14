// Greedy, per-class and soft non-maximum suppression behind a C ABI.
//
// Boxes are (n, 4) rows x1, y1, x2, y2; areas are (x2 - x1) * (y2 - y1), without the "+1" of pixel
// grids. Every function returns how many entries it wrote, or -1 when memory ran out.

#include <cmath>
#include <new>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "vector.h"

namespace unidet {
namespace {

// Marks the boxes in [begin, end) that overlap box `i` by more than `threshold`; returns how many
// are newly marked. Marks are as wide as T so that one vector of numbers meets one of marks.
template <class T, class Mark>
UNIDET_INLINE Mark mark_overlapping(const T* __restrict x1, const T* __restrict y1,
                                    const T* __restrict x2, const T* __restrict y2,
                                    const T* __restrict area, Mark* __restrict dead, int64_t i,
                                    int64_t begin, int64_t end, T threshold) {
    const T ax1 = x1[i], ay1 = y1[i], ax2 = x2[i], ay2 = y2[i], aarea = area[i];
    Mark fresh = 0;
    for (int64_t j = begin; j < end; ++j) {
        const T iou = overlap(ax1, ay1, ax2, ay2, aarea, x1[j], y1[j], x2[j], y2[j], area[j]);
        const Mark hit = Mark(iou > threshold) & Mark(dead[j] ^ 1);
        dead[j] |= hit;
        fresh += hit;
    }
    return fresh;
}

#define UNIDET_MARK(T, Mark)                                                                    \
    UNIDET_CLONES Mark mark(const T* x1, const T* y1, const T* x2, const T* y2, const T* area,  \
                            Mark* dead, int64_t i, int64_t begin, int64_t end, T threshold) {   \
        return mark_overlapping(x1, y1, x2, y2, area, dead, i, begin, end, threshold);          \
    }
UNIDET_MARK(float, int32_t)
UNIDET_MARK(double, int64_t)

// Calls visit(position) for each kept box, in order. `boxes` must be sorted; it is consumed.
template <class T, class Visit>
void suppress(Boxes<T>& boxes, T threshold, Visit visit) {
    using Mark = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
    std::vector<Mark> dead(boxes.count, 0);
    std::vector<int64_t> position(boxes.count);
    for (int64_t i = 0; i < boxes.count; ++i) position[i] = i;
    int64_t dead_ahead = 0;
    for (int64_t i = 0; i < boxes.count; ++i) {
        if (dead[i]) {
            --dead_ahead;
            continue;
        }
        visit(position[i]);
        dead_ahead += mark(boxes.x1.data(), boxes.y1.data(), boxes.x2.data(), boxes.y2.data(),
                           boxes.area.data(), dead.data(), i, i + 1, boxes.count, threshold);
        // Moving survivors together pays once a good part of the rest is dead.
        if (dead_ahead * 4 > boxes.count - i - 1) {
            int64_t to = i + 1;
            for (int64_t from = i + 1; from < boxes.count; ++from) {
                if (dead[from]) continue;
                boxes.move(from, to);
                position[to++] = position[from];
            }
            std::fill(dead.begin() + i + 1, dead.begin() + to, Mark(0));
            boxes.count = to;
            dead_ahead = 0;
        }
    }
}

template <class T>
int64_t nms(const T* rows, const T* scores, int64_t n, T threshold, int64_t* kept) {
    const std::vector<int64_t> order = falling_order(scores, n);
    Boxes<T> boxes(n);
    for (int64_t i = 0; i < n; ++i) boxes.push(rows + 4 * order[i]);
    int64_t count = 0;
    suppress(boxes, threshold, [&](int64_t position) { kept[count++] = order[position]; });
    return count;
}

// Ranks of each class one after the other, and where each class begins.
struct Groups {
    std::vector<int64_t> ranks, begins;
};

Groups group_by_class(const std::vector<int64_t>& order, const int64_t* classes) {
    const int64_t n = int64_t(order.size());
    Groups groups;
    groups.ranks.resize(n);
    for (int64_t i = 0; i < n; ++i) groups.ranks[i] = i;
    std::stable_sort(groups.ranks.begin(), groups.ranks.end(), [&](int64_t a, int64_t b) {
        return classes[order[a]] < classes[order[b]];
    });
    for (int64_t i = 0; i < n; ++i) {
        const bool first =
            i == 0 || classes[order[groups.ranks[i]]] != classes[order[groups.ranks[i - 1]]];
        if (first) groups.begins.push_back(i);
    }
    groups.begins.push_back(n);
    return groups;
}

template <class T>
int64_t batched_nms(const T* rows, const T* scores, const int64_t* classes, int64_t n, T threshold,
                    int threads, int64_t* kept) {
    const std::vector<int64_t> order = falling_order(scores, n);
    const Groups groups = group_by_class(order, classes);
    const int64_t group_count = int64_t(groups.begins.size()) - 1;
    std::vector<uint8_t> keep(n, 0);
    double pairs = 0;
    for (int64_t g = 0; g < group_count; ++g) {
        const double size = double(groups.begins[g + 1] - groups.begins[g]);
        pairs += size * size / 2;
    }
    bool failed = false;
    // Below about a million pairs waking the other threads costs more than it saves.
    const bool parallel = threads > 1 && group_count > 1 && pairs > 1e6;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (parallel)
    for (int64_t g = 0; g < group_count; ++g) {
        try {
            const int64_t begin = groups.begins[g], end = groups.begins[g + 1];
            Boxes<T> boxes(end - begin);
            for (int64_t i = begin; i < end; ++i) boxes.push(rows + 4 * order[groups.ranks[i]]);
            suppress(boxes, threshold, [&](int64_t p) { keep[groups.ranks[begin + p]] = 1; });
        } catch (const std::bad_alloc&) {
#pragma omp atomic write
            failed = true;
        }
    }
    (void)parallel;
    if (failed) throw std::bad_alloc();
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i)
        if (keep[i]) kept[count++] = order[i];
    return count;
}

#define UNIDET_SOFT(T)                                                                             \
    UNIDET_CLONES void overlaps_all(const T* x1, const T* y1, const T* x2, const T* y2,            \
                                    const T* area, T* out, int64_t i, int64_t n) {                 \
        overlaps(x1[i], y1[i], x2[i], y2[i], area[i], x1, y1, x2, y2, area, out, n);               \
    }                                                                                              \
    UNIDET_CLONES T largest_of(const T* scores, int64_t n) { return largest(scores, n); }
UNIDET_SOFT(float)
UNIDET_SOFT(double)

enum Method { kHard = 0, kLinear = 1, kGaussian = 2 };

// The score after meeting a kept box. The exponential is taken in double so that a float32 result
// does not depend on whose exponential it was.
template <class T>
UNIDET_INLINE T decayed(T score, T iou, T threshold, double sigma, int method) {
    if (method == kGaussian) return score * T(std::exp(-(double(iou) * double(iou)) / sigma));
    if (!(iou > threshold)) return score;
    return method == kLinear ? score * (T(1) - iou) : T(-INFINITY);
}

template <class T>
int64_t soft_nms(const T* rows, const T* scores_in, int64_t n, T threshold, double sigma,
                 T score_threshold, int method, int64_t* kept, T* kept_scores) {
    Boxes<T> boxes(n);
    std::vector<T> scores, iou(n);
    std::vector<int64_t> index;
    for (int64_t i = 0; i < n; ++i) {
        if (!(scores_in[i] >= score_threshold)) continue;
        boxes.push(rows + 4 * i);
        scores.push_back(scores_in[i]);
        index.push_back(i);
    }
    int64_t count = 0, gone = 0;
    while (boxes.count > gone) {
        const T best = largest_of(scores.data(), boxes.count);
        const int64_t i = std::find(scores.begin(), scores.begin() + boxes.count, best) - scores.begin();
        kept[count] = index[i];
        kept_scores[count++] = best;
        overlaps_all(boxes.x1.data(), boxes.y1.data(), boxes.x2.data(), boxes.y2.data(),
                     boxes.area.data(), iou.data(), i, boxes.count);
        scores[i] = -INFINITY;
        ++gone;
        for (int64_t j = 0; j < boxes.count; ++j) {
            if (!(iou[j] > T(0)) || scores[j] == T(-INFINITY)) continue;
            scores[j] = decayed(scores[j], iou[j], threshold, sigma, method);
            if (!(scores[j] >= score_threshold)) {
                scores[j] = -INFINITY;
                ++gone;
            }
        }
        if (gone * 4 <= boxes.count) continue;
        int64_t to = 0;
        for (int64_t from = 0; from < boxes.count; ++from) {
            if (scores[from] == T(-INFINITY)) continue;
            boxes.move(from, to);
            scores[to] = scores[from];
            index[to++] = index[from];
        }
        boxes.count = to;
        gone = 0;
    }
    return count;
}

}  // namespace
}  // namespace unidet

#define UNIDET_NMS(T, suffix)                                                                      \
    UNIDET_EXPORT int64_t unidet_nms_##suffix(const T* boxes, const T* scores, int64_t n,          \
                                              double threshold, int64_t* kept) {                   \
        UNIDET_GUARD(unidet::nms<T>(boxes, scores, n, T(threshold), kept))                         \
    }                                                                                              \
    UNIDET_EXPORT int64_t unidet_batched_nms_##suffix(const T* boxes, const T* scores,             \
                                                      const int64_t* classes, int64_t n,           \
                                                      double threshold, int threads,               \
                                                      int64_t* kept) {                             \
        UNIDET_GUARD(                                                                              \
            unidet::batched_nms<T>(boxes, scores, classes, n, T(threshold), threads, kept))        \
    }                                                                                              \
    UNIDET_EXPORT int64_t unidet_soft_nms_##suffix(const T* boxes, const T* scores, int64_t n,     \
                                                   double threshold, double sigma,                 \
                                                   double score_threshold, int method,             \
                                                   int64_t* kept, T* kept_scores) {                \
        UNIDET_GUARD(unidet::soft_nms<T>(boxes, scores, n, T(threshold), sigma,                    \
                                         T(score_threshold), method, kept, kept_scores))           \
    }
UNIDET_NMS(float, f32)
UNIDET_NMS(double, f64)

UNIDET_EXPORT int unidet_max_threads() {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}
