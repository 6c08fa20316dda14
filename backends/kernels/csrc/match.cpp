// Which object each of many boxes overlaps most, and which boxes each object overlaps most.
//
// Boxes and objects are (n, 4) rows x1, y1, x2, y2 with the areas and the overlaps of nms.cpp.

#include "vector.h"

namespace unidet {
namespace {

// Boxes that are met by all objects before the next ones are: their numbers stay in the cache.
constexpr int64_t kBlock = 2048;

// An integer as wide as T, so that one vector of numbers meets one of owners.
template <class T>
using Owner = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

template <class T>
UNIDET_INLINE void take_better(const T* __restrict iou, Owner<T> object, T* __restrict best,
                               Owner<T>* __restrict owner, int64_t n) {
    for (int64_t j = 0; j < n; ++j) {
        const bool better = iou[j] > best[j];
        owner[j] = better ? object : owner[j];
        best[j] = better ? iou[j] : best[j];
    }
}

#define UNIDET_MEET(T)                                                                           \
    UNIDET_CLONES void overlaps_with(const T* object, const T* x1, const T* y1, const T* x2,      \
                                     const T* y2, const T* area, T* out, int64_t n) {             \
        const T own = (object[2] - object[0]) * (object[3] - object[1]);                          \
        overlaps(object[0], object[1], object[2], object[3], own, x1, y1, x2, y2, area, out, n);  \
    }                                                                                             \
    UNIDET_CLONES T meet(const T* iou, Owner<T> object, T* best, Owner<T>* owner, int64_t n) {    \
        take_better(iou, object, best, owner, n);                                                 \
        return largest(iou, n);                                                                   \
    }
UNIDET_MEET(float)
UNIDET_MEET(double)

template <class T>
int64_t match(const T* rows, int64_t n, const T* objects, int64_t count, T least, T* best,
              int64_t* owner, int64_t* favourite) {
    Boxes<T> boxes(n);
    for (int64_t i = 0; i < n; ++i) boxes.push(rows + 4 * i);
    std::vector<T> iou(kBlock), highest(count, T(0));
    std::vector<Owner<T>> owners(kBlock);
    const int64_t blocks = (n + kBlock - 1) / kBlock;
    // Highest overlap of each object within each block.
    std::vector<T> within(count * blocks);
    const auto compute = [&](int64_t g, int64_t begin, int64_t size) {
        overlaps_with(objects + 4 * g, boxes.x1.data() + begin, boxes.y1.data() + begin,
                      boxes.x2.data() + begin, boxes.y2.data() + begin, boxes.area.data() + begin,
                      iou.data(), size);
    };
    for (int64_t b = 0; b < blocks; ++b) {
        const int64_t begin = b * kBlock, size = std::min(kBlock, n - begin);
        std::fill(best + begin, best + begin + size, T(0));
        std::fill(owners.begin(), owners.end(), Owner<T>(-1));
        for (int64_t g = 0; g < count; ++g) {
            compute(g, begin, size);
            const T most = meet(iou.data(), Owner<T>(g), best + begin, owners.data(), size);
            within[g * blocks + b] = most;
            highest[g] = std::max(highest[g], most);
        }
        std::copy(owners.begin(), owners.begin() + size, owner + begin);
    }
    std::fill(favourite, favourite + n, int64_t(-1));
    for (int64_t g = 0; g < count; ++g) {
        if (!(highest[g] > T(0) && highest[g] >= least)) continue;
        for (int64_t b = 0; b < blocks; ++b) {
            if (within[g * blocks + b] != highest[g]) continue;
            const int64_t begin = b * kBlock, size = std::min(kBlock, n - begin);
            compute(g, begin, size);
            for (int64_t j = 0; j < size; ++j)
                if (iou[j] == highest[g]) favourite[begin + j] = g;
        }
    }
    return n;
}

}  // namespace
}  // namespace unidet

#define UNIDET_MATCH(T, suffix)                                                                 \
    UNIDET_EXPORT int64_t unidet_match_##suffix(const T* boxes, int64_t n, const T* objects,    \
                                                int64_t count, double least, T* best,           \
                                                int64_t* owner, int64_t* favourite) {           \
        UNIDET_GUARD(                                                                           \
            unidet::match<T>(boxes, n, objects, count, T(least), best, owner, favourite))       \
    }
UNIDET_MATCH(float, f32)
UNIDET_MATCH(double, f64)
