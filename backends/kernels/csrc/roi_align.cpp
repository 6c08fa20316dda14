// RoIAlign, forward and backward, behind a C ABI.
//
// The mean of bilinear samples over a cell is separable: a cell is a weighted sum of a few rows
// times a few columns. Each box gets two short lists of taps, one for each axis; the forward pass
// applies them, the backward pass applies their transposes, with the same loop over channels.
// Channels lie innermost while that loop runs, so each tap is one contiguous row times one number;
// NCHW memory is transposed block by block on the way in and out.
//
// Every output element is summed by one thread in the order of the boxes: results depend neither on
// the number of threads nor on their timing.

#include <cmath>
#include <memory>
#include <new>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "roi_align.h"

namespace unidet {
namespace {

enum Failure : int64_t { kNoMemory = -1, kBadIndex = -2, kBadBox = -3 };

struct Shape {
    int64_t images, channels, height, width;
    int64_t area() const { return height * width; }
};

// What a call is asked for, apart from the memory that it works on.
template <class T>
struct Request {
    const T* boxes;
    const int64_t *indices, *levels;
    int64_t level, count, rows, columns;
    T scale;
    int64_t sampling;
    bool aligned;
    int threads;
    int64_t cells() const { return rows * columns; }
};

template <class T>
struct Region {
    int64_t image, row;
    Taps<T> y, x;
};

template <class T>
Region<T> region_of(const Request<T>& ask, const Shape& shape, int64_t row, bool transposed) {
    const T* box = ask.boxes + 4 * row;
    const T offset = ask.aligned ? T(0.5) : T(0);
    const auto axis = [&](int k, int64_t bins, int64_t extent, double& samples) {
        return sampled(box[k] * ask.scale - offset, box[k + 2] * ask.scale - offset, bins, extent,
                       ask.sampling, ask.aligned, samples);
    };
    double vertical = 0, horizontal = 0;
    Region<T> region{ask.indices[row], row, axis(1, ask.rows, shape.height, vertical),
                     axis(0, ask.columns, shape.width, horizontal)};
    const double samples = vertical * horizontal;
    if (samples > 1)
        for (T& weight : region.y.weight) weight = T(weight / samples);
    if (transposed) {
        region.y = flipped(region.y, shape.height);
        region.x = flipped(region.x, shape.width);
    }
    return region;
}

// The boxes of the wanted level, image by image, in their order.
template <class T>
struct Regions {
    std::vector<Region<T>> all;
    std::vector<int64_t> begins;
};

template <class T>
int64_t check(const Request<T>& ask, const Shape& shape) {
    for (int64_t i = 0; i < ask.count; ++i) {
        if (ask.indices[i] < 0 || ask.indices[i] >= shape.images) return kBadIndex;
        for (int k = 0; k < 4; ++k)
            if (!std::isfinite(ask.boxes[4 * i + k])) return kBadBox;
    }
    return 0;
}

template <class T>
Regions<T> regions_of(const Request<T>& ask, const Shape& shape, bool transposed) {
    Regions<T> regions;
    regions.begins.assign(shape.images + 1, 0);
    const auto wanted = [&](int64_t i) { return !ask.levels || ask.levels[i] == ask.level; };
    for (int64_t i = 0; i < ask.count; ++i)
        if (wanted(i)) ++regions.begins[ask.indices[i] + 1];
    for (int64_t n = 0; n < shape.images; ++n) regions.begins[n + 1] += regions.begins[n];
    std::vector<int64_t> next(regions.begins), rows(regions.begins.back());
    for (int64_t i = 0; i < ask.count; ++i)
        if (wanted(i)) rows[next[ask.indices[i]]++] = i;
    regions.all.resize(rows.size());
    bool failed = false;
#pragma omp parallel for schedule(static) num_threads(ask.threads) if (rows.size() > 32)
    for (int64_t i = 0; i < int64_t(rows.size()); ++i) {
        try {
            regions.all[i] = region_of(ask, shape, rows[i], transposed);
        } catch (const std::bad_alloc&) {
#pragma omp atomic write
            failed = true;
        }
    }
    if (failed) throw std::bad_alloc();
    return regions;
}

// Fresh memory comes in pages of 4 KiB, one fault each, unless the kernel is asked for large ones.
void ask_for_large_pages(void* memory, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t kPage = 1 << 21;
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + kPage - 1) & ~(kPage - 1);
    const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + bytes) & ~(kPage - 1);
    if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

int this_thread() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

// Working memory of each thread, made before the threads start so that nothing throws inside.
template <class T>
struct Scratch {
    std::vector<std::unique_ptr<T[]>> blocks;
    Scratch(int threads, int64_t size) {
        for (int i = 0; i < threads; ++i) {
            blocks.emplace_back(new T[size]);
            ask_for_large_pages(blocks.back().get(), size * int64_t(sizeof(T)));
        }
    }
    T* mine() const { return blocks[this_thread()].get(); }
};

// Channels that are worked on at once.
constexpr int64_t kBlock = 64;

// Channels of a transposed piece of a map: it should stay in a cache, and there should be work for
// every thread.
int64_t slab_channels(const Shape& shape, int threads, int64_t bytes) {
    int64_t block = kBlock;
    const auto units = [&] { return shape.images * ((shape.channels + block - 1) / block); };
    while (block > 16 && (shape.area() * block * bytes > (8 << 20) || units() < threads)) block /= 2;
    return block;
}

template <class T>
void forward_last(const Request<T>& ask, const Shape& shape, const Regions<T>& regions,
                  const T* features, bool out_last, T* out) {
    const int64_t channels = shape.channels, cells = ask.cells();
    const Scratch<T> tiles(ask.threads, out_last ? 1 : cells * kBlock);
#pragma omp parallel for schedule(dynamic, 4) num_threads(ask.threads)
    for (int64_t i = 0; i < int64_t(regions.all.size()); ++i) {
        const Region<T>& region = regions.all[i];
        const Image<const T> map{features + region.image * shape.area() * channels,
                                 shape.width * channels, channels};
        T* to = out + region.row * cells * channels;
        if (out_last) {
            apply(region.y, region.x, map, {to, ask.columns * channels, channels}, channels, false);
            continue;
        }
        T* tile = tiles.mine();
        for (int64_t c = 0; c < channels; c += kBlock) {
            const int64_t width = std::min(kBlock, channels - c);
            apply(region.y, region.x, map.at(c), {tile, ask.columns * kBlock, kBlock}, width, false);
            transpose(tile, kBlock, to + c * cells, cells, cells, width);
        }
    }
}

template <class T>
void forward_first(const Request<T>& ask, const Shape& shape, const Regions<T>& regions,
                   const T* features, bool out_last, T* out) {
    const int64_t channels = shape.channels, cells = ask.cells();
    const int64_t block = slab_channels(shape, ask.threads, sizeof(T));
    const int64_t blocks = (channels + block - 1) / block;
    const Scratch<T> slabs(ask.threads, shape.area() * block), tiles(ask.threads, cells * block);
#pragma omp parallel for schedule(dynamic) num_threads(ask.threads)
    for (int64_t unit = 0; unit < shape.images * blocks; ++unit) {
        const int64_t image = unit / blocks, c = unit % blocks * block;
        const int64_t width = std::min(block, channels - c);
        if (regions.begins[image] == regions.begins[image + 1]) continue;
        T *slab = slabs.mine(), *tile = tiles.mine();
        transpose(features + (image * channels + c) * shape.area(), shape.area(), slab, block, width,
                  shape.area());
        const Image<const T> map{slab, shape.width * block, block};
        for (int64_t i = regions.begins[image]; i < regions.begins[image + 1]; ++i) {
            const Region<T>& region = regions.all[i];
            T* to = out + region.row * cells * channels;
            if (out_last) {
                const Image<T> target{to + c, ask.columns * channels, channels};
                apply(region.y, region.x, map, target, width, false);
            } else {
                apply(region.y, region.x, map, {tile, ask.columns * block, block}, width, false);
                transpose(tile, block, to + c * cells, cells, cells, width);
            }
        }
    }
}

// Adds the gradient of one box to `map`, whose first channel is number `c` of the gradient.
template <class T>
void spread(const Request<T>& ask, const Region<T>& region, const T* gradient, bool last,
            int64_t channels, int64_t c, int64_t width, Image<T> map, T* tile) {
    const int64_t cells = ask.cells();
    const T* from = gradient + region.row * cells * channels;
    if (last) {
        const Image<const T> source{from + c, ask.columns * channels, channels};
        apply(region.y, region.x, source, map, width, true);
        return;
    }
    for (int64_t k = 0; k < width; k += kBlock) {
        const int64_t part = std::min(kBlock, width - k);
        transpose(from + (c + k) * cells, cells, tile, kBlock, part, cells);
        const Image<const T> source{tile, ask.columns * kBlock, kBlock};
        apply(region.y, region.x, source, map.at(k), part, true);
    }
}

template <class T>
void backward_last(const Request<T>& ask, const Shape& shape, const Regions<T>& regions,
                   const T* gradient, bool gradient_last, T* out) {
    const int64_t channels = shape.channels;
    const int64_t total = shape.images * shape.area() * channels, piece = 1 << 18;
#pragma omp parallel for schedule(static) num_threads(ask.threads)
    for (int64_t i = 0; i < total; i += piece)
        std::fill(out + i, out + std::min(total, i + piece), T(0));
    // Each thread owns a range of channels of an image.
    const int64_t share = (channels + ask.threads - 1) / ask.threads;
    const int64_t block = (share + kBlock - 1) / kBlock * kBlock;
    const int64_t blocks = (channels + block - 1) / block;
    const Scratch<T> tiles(ask.threads, gradient_last ? 1 : ask.cells() * kBlock);
#pragma omp parallel for schedule(dynamic) num_threads(ask.threads)
    for (int64_t unit = 0; unit < shape.images * blocks; ++unit) {
        const int64_t image = unit / blocks, c = unit % blocks * block;
        const Image<T> map{out + image * shape.area() * channels + c, shape.width * channels,
                           channels};
        for (int64_t i = regions.begins[image]; i < regions.begins[image + 1]; ++i)
            spread(ask, regions.all[i], gradient, gradient_last, channels, c,
                   std::min(block, channels - c), map, tiles.mine());
    }
}

template <class T>
void backward_first(const Request<T>& ask, const Shape& shape, const Regions<T>& regions,
                    const T* gradient, bool gradient_last, T* out) {
    const int64_t channels = shape.channels, area = shape.area();
    const int64_t block = slab_channels(shape, ask.threads, sizeof(T));
    const int64_t blocks = (channels + block - 1) / block;
    const Scratch<T> slabs(ask.threads, area * block);
    const Scratch<T> tiles(ask.threads, gradient_last ? 1 : ask.cells() * kBlock);
#pragma omp parallel for schedule(dynamic) num_threads(ask.threads)
    for (int64_t unit = 0; unit < shape.images * blocks; ++unit) {
        const int64_t image = unit / blocks, c = unit % blocks * block;
        const int64_t width = std::min(block, channels - c);
        T *slab = slabs.mine(), *to = out + (image * channels + c) * area;
        if (regions.begins[image] == regions.begins[image + 1]) {
            std::fill(to, to + width * area, T(0));
            continue;
        }
        std::fill(slab, slab + area * block, T(0));
        const Image<T> map{slab, shape.width * block, block};
        for (int64_t i = regions.begins[image]; i < regions.begins[image + 1]; ++i)
            spread(ask, regions.all[i], gradient, gradient_last, channels, c, width, map,
                   tiles.mine());
        transpose(slab, block, to, area, area, width);
    }
}

template <class T>
int64_t forward(const Request<T>& ask, const Shape& shape, const T* features, bool last,
                bool out_last, T* out) {
    if (const int64_t failure = check(ask, shape)) return failure;
    const Regions<T> regions = regions_of(ask, shape, false);
    if (regions.all.empty() || shape.channels == 0) return 0;
    ask_for_large_pages(out, ask.count * ask.cells() * shape.channels * int64_t(sizeof(T)));
    (last ? forward_last<T> : forward_first<T>)(ask, shape, regions, features, out_last, out);
    return 0;
}

template <class T>
int64_t backward(const Request<T>& ask, const Shape& shape, const T* gradient, bool gradient_last,
                 bool last, T* out) {
    if (const int64_t failure = check(ask, shape)) return failure;
    const Regions<T> regions = regions_of(ask, shape, true);
    if (shape.images * shape.channels * shape.area() == 0) return 0;
    ask_for_large_pages(out, shape.images * shape.channels * shape.area() * int64_t(sizeof(T)));
    (last ? backward_last<T> : backward_first<T>)(ask, shape, regions, gradient, gradient_last, out);
    return 0;
}

}  // namespace
}  // namespace unidet

// `sizes`: images, channels, height and width of the map, rows and columns of a cell grid, number
// of boxes, the level that is wanted, samples along a cell (0: as many as the box is long), threads.
// `flags`: 1 aligned, 2 map with channels last, 4 cells with channels last. `levels` may be null.
// Exceptions must not cross the C ABI.
#define UNIDET_ROI_ALIGN(T, suffix)                                                                \
    UNIDET_EXPORT int64_t unidet_roi_align_##suffix(                                               \
        const T* features, const T* boxes, const int64_t* indices, const int64_t* levels,          \
        const int64_t* sizes, double scale, int64_t flags, T* out) {                               \
        const unidet::Request<T> ask{boxes,    indices,  levels,       sizes[7],  sizes[6],        \
                                     sizes[4], sizes[5], T(scale),     sizes[8],  bool(flags & 1), \
                                     int(sizes[9])};                                               \
        const unidet::Shape shape{sizes[0], sizes[1], sizes[2], sizes[3]};                         \
        try {                                                                                      \
            return unidet::forward<T>(ask, shape, features, flags & 2, flags & 4, out);            \
        } catch (const std::exception&) {                                                          \
            return unidet::kNoMemory;                                                              \
        }                                                                                          \
    }                                                                                              \
    UNIDET_EXPORT int64_t unidet_roi_align_backward_##suffix(                                      \
        const T* gradient, const T* boxes, const int64_t* indices, const int64_t* levels,          \
        const int64_t* sizes, double scale, int64_t flags, T* out) {                               \
        const unidet::Request<T> ask{boxes,    indices,  levels,       sizes[7],  sizes[6],        \
                                     sizes[4], sizes[5], T(scale),     sizes[8],  bool(flags & 1), \
                                     int(sizes[9])};                                               \
        const unidet::Shape shape{sizes[0], sizes[1], sizes[2], sizes[3]};                         \
        try {                                                                                      \
            return unidet::backward<T>(ask, shape, gradient, flags & 4, flags & 2, out);           \
        } catch (const std::exception&) {                                                          \
            return unidet::kNoMemory;                                                              \
        }                                                                                          \
    }
UNIDET_ROI_ALIGN(float, f32)
UNIDET_ROI_ALIGN(double, f64)
