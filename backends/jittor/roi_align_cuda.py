"""CUDA source of RoIAlign for Jittor: one thread for each cell and channel.

The backward pass adds with atomics, so on a GPU the last bits of a gradient may differ from run to
run. The inputs are boxes, images and maps of the boxes, then the feature maps or the gradient.
"""

from __future__ import annotations

HEADER = r"""
#include <cstdint>

namespace unidet_roi {

template <class T>
struct Cell {
    T y, x, step_y, step_x, share;
    int64_t grid_y, grid_x;
};

// Where the samples of one cell begin, how far they lie apart and what each of them counts.
template <class T>
__device__ Cell<T> cell_of(const T* box, T scale, bool aligned, int64_t sampling, int64_t rows,
                           int64_t columns, int64_t row, int64_t column) {
    const T offset = aligned ? T(0.5) : T(0);
    const T x1 = box[0] * scale - offset, y1 = box[1] * scale - offset;
    T width = box[2] * scale - offset - x1, height = box[3] * scale - offset - y1;
    if (!aligned) {
        width = width > T(1) ? width : T(1);
        height = height > T(1) ? height : T(1);
    }
    const T bin_y = height / T(rows), bin_x = width / T(columns);
    Cell<T> cell;
    cell.grid_y = sampling > 0 ? sampling : int64_t(ceil(bin_y));
    cell.grid_x = sampling > 0 ? sampling : int64_t(ceil(bin_x));
    cell.step_y = bin_y / T(cell.grid_y);
    cell.step_x = bin_x / T(cell.grid_x);
    cell.y = y1 + T(row) * bin_y;
    cell.x = x1 + T(column) * bin_x;
    const T samples = T(cell.grid_y) * T(cell.grid_x);
    cell.share = T(1) / (samples > T(1) ? samples : T(1));
    return cell;
}

// Calls visit(pixel, weight) for the four neighbours of each sample inside the map.
template <class T, class Visit>
__device__ void each_tap(const Cell<T>& cell, int64_t height, int64_t width, Visit visit) {
    for (int64_t i = 0; i < cell.grid_y; ++i)
        for (int64_t j = 0; j < cell.grid_x; ++j) {
            T y = cell.y + (T(i) + T(0.5)) * cell.step_y;
            T x = cell.x + (T(j) + T(0.5)) * cell.step_x;
            if (!(y >= T(-1) && y <= T(height) && x >= T(-1) && x <= T(width))) continue;
            y = y > T(0) ? (y < T(height - 1) ? y : T(height - 1)) : T(0);
            x = x > T(0) ? (x < T(width - 1) ? x : T(width - 1)) : T(0);
            const int64_t top = int64_t(y), left = int64_t(x);
            const int64_t bottom = top + 1 < height ? top + 1 : top;
            const int64_t right = left + 1 < width ? left + 1 : left;
            const T down = y - T(top), across = x - T(left);
            visit(top * width + left, (1 - down) * (1 - across) * cell.share);
            visit(top * width + right, (1 - down) * across * cell.share);
            visit(bottom * width + left, down * (1 - across) * cell.share);
            visit(bottom * width + right, down * across * cell.share);
        }
}

template <class T, bool BACKWARD>
__global__ void align(const T* boxes, const int64_t* indices, const int64_t* levels, int64_t level,
                      int64_t count, int64_t channels, int64_t height, int64_t width, int64_t rows,
                      int64_t columns, T scale, int64_t sampling, bool aligned, T* map, T* cells) {
    const int64_t total = count * channels * rows * columns;
    for (int64_t k = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; k < total;
         k += int64_t(blockDim.x) * gridDim.x) {
        const int64_t column = k % columns, row = k / columns % rows;
        const int64_t channel = k / (columns * rows) % channels;
        const int64_t i = k / (columns * rows * channels);
        if (levels[i] != level) continue;
        const Cell<T> cell =
            cell_of(boxes + 4 * i, scale, aligned, sampling, rows, columns, row, column);
        T* plane = map + (indices[i] * channels + channel) * height * width;
        if (BACKWARD) {
            const T gradient = cells[k];
            each_tap(cell, height, width, [&](int64_t pixel, T weight) {
                atomicAdd(plane + pixel, gradient * weight);
            });
        } else {
            T sum = 0;
            each_tap(cell, height, width,
                     [&](int64_t pixel, T weight) { sum += plane[pixel] * weight; });
            cells[k] = sum;
        }
    }
}

}  // namespace unidet_roi
"""


def _call(level: int, map_: str, cells: str, backward: bool) -> str:
    zero = f"cudaMemsetAsync({map_}_p, 0, {map_}->size);" if backward else ""
    return f"""
{{
    {zero}
    const int64_t rows = data["rows"], columns = data["columns"];
    const int64_t total = in0_shape0 * {map_}_shape1 * rows * columns;
    const int blocks = int((total + 255) / 256 < 65535 ? (total + 255) / 256 : 65535);
    unidet_roi::align<in0_type, {str(backward).lower()}><<<blocks, 256>>>(
        in0_p, (const int64_t*)in1_p, (const int64_t*)in2_p, {level}, in0_shape0, {map_}_shape1,
        {map_}_shape2, {map_}_shape3, rows, columns, in0_type(data["scale{level}"]),
        int64_t(data["sampling"]), data["aligned"] != 0, (in0_type*){map_}_p,
        (in0_type*){cells}_p);
}}"""


def _forward(maps: int) -> str:
    return "".join(_call(k, f"in{3 + k}", "out0", False) for k in range(maps))


def _backward(maps: int) -> str:
    return "".join(_call(k, f"out{k}", "in3", True) for k in range(maps))


#: Makes the source for a number of maps.
SOURCES = {"roi_align": _forward, "roi_align_backward": _backward}
