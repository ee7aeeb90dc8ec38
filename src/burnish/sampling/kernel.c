/* What a decode step spends its time in, for float32 on a CPU: products with few rows, and attention over slots.
 *
 * Written with the vectors of GCC, so that one text serves AVX-512, AVX2 and NEON. Each sum is taken in one order,
 * whatever the number of rows or threads: what a token gets does not depend on who shares its step.
 *
 * Axes: T tokens, D inputs, O outputs, P panels of PANEL outputs, H query heads, K key heads, E width of a head.
 */
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16, TILE = 8 }; /* TILE x 3 sums, 3 weights and an input fit the registers */
#elif defined(__AVX__)
enum { LANES = 8, TILE = 4 };
#elif defined(__aarch64__)
enum { LANES = 4, TILE = 8 };
#else
enum { LANES = 4, TILE = 4 };
#endif
enum { VECTORS = 3, PANEL = VECTORS * LANES, DEPTH = 128, ROWS = 64, LINE = 64, WIDTHS = 16 };

typedef float lanes __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t whole __attribute__((vector_size(LANES * 4)));
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

int64_t panel(void) { return PANEL; }

/* weight [O, D] to [P, D, PANEL]; outputs that are not there are 0. */
void pack(const float *weight, int64_t outputs, int64_t inputs, float *packed, int threads)
{
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t o = 0; o < outputs; o += PANEL)
        for (int64_t d = 0; d < inputs; d++)
            for (int64_t j = 0; j < PANEL; j++)
                packed[o * inputs + d * PANEL + j] = o + j < outputs ? weight[(o + j) * inputs + d] : 0;
}

/* out[n, PANEL] = start + x[n, depth] w[depth, PANEL], every sum in a register; fetches a line of `ahead` a turn. */
INLINE void tile(const int n, const float *x, int64_t inputs, const float *w, int64_t depth, const float *start,
                 int64_t start_stride, float *out, int64_t stride, const char *ahead)
{
    lanes sum[TILE][VECTORS];
    UNROLL for (int r = 0; r < n; r++)
        UNROLL for (int v = 0; v < VECTORS; v++)
            sum[r][v] = start ? *(const lanes *)(start + r * start_stride + v * LANES) : (lanes){0};
    for (int64_t d = 0; d < depth; d++, w += PANEL) {
        lanes column[VECTORS];
        UNROLL for (int v = 0; v < VECTORS; v++) column[v] = *(const lanes *)(w + v * LANES);
        __builtin_prefetch(ahead + d * LINE, 0, 2);
        UNROLL for (int r = 0; r < n; r++) {
            const lanes input = x[r * inputs + d] - (lanes){0};
            UNROLL for (int v = 0; v < VECTORS; v++) sum[r][v] += input * column[v];
        }
    }
    UNROLL for (int r = 0; r < n; r++)
        UNROLL for (int v = 0; v < VECTORS; v++) *(lanes *)(out + r * stride + v * LANES) = sum[r][v];
}

/* A panel of up to ROWS rows, DEPTH inputs at a time: the weights of all tiles but the first lie in the nearest cache,
 * and those of the next DEPTH inputs are fetched meanwhile, a part by each tile. */
static void strip(const float *x, int64_t rows, int64_t inputs, const float *w, const float *start,
                  int64_t start_stride, float *out, int64_t stride)
{
    for (int64_t d = 0; d < inputs; d += DEPTH) {
        const int64_t depth = inputs - d < DEPTH ? inputs - d : DEPTH;
        const char *ahead = (const char *)(w + (d + depth) * PANEL), *end = ahead + depth * PANEL * 4;
        for (int64_t r = 0; r < rows; r += TILE) {
            const float *from = start ? start + r * start_stride : 0;
#define CASE(n)                                                                                              \
    case n:                                                                                                  \
        tile(n <= TILE ? n : TILE, x + r * inputs + d, inputs, w + d * PANEL, depth, from, start_stride,     \
             out + r * stride, stride, ahead);                                                               \
        break;
            switch (rows - r < TILE ? rows - r : TILE) {
                CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
            }
            ahead += ahead + 2 * depth * LINE <= end ? depth * LINE : 0;
        }
        start = out, start_stride = stride;
    }
}

/* out [T, O] = start + x [T, D] packed^T; start is [T, O], [O] (stride 0) or absent. */
void product(const float *x, int64_t tokens, int64_t inputs, const float *packed, int64_t outputs, const float *start,
             int64_t start_stride, float *out, int threads)
{
    const int64_t panels = (outputs + PANEL - 1) / PANEL, blocks = (tokens + ROWS - 1) / ROWS;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (int64_t p = 0; p < panels; p++)
        for (int64_t b = 0; b < blocks; b++) {
            const int64_t t = b * ROWS, rows = tokens - t < ROWS ? tokens - t : ROWS, o = p * PANEL;
            const float *w = packed + o * inputs, *from = start ? start + t * start_stride + o : 0;
            float *to = out + t * outputs + o;
            if (o + PANEL <= outputs) {
                strip(x + t * inputs, rows, inputs, w, from, start_stride, to, outputs);
                continue;
            }
            float edge[ROWS * PANEL] = {0}; /* a panel that is not full goes through a full one */
            const int64_t width = (outputs - o) * sizeof(float);
            for (int64_t r = 0; from && r < rows; r++) memcpy(edge + r * PANEL, from + r * start_stride, width);
            strip(x + t * inputs, rows, inputs, w, edge, PANEL, edge, PANEL);
            for (int64_t r = 0; r < rows; r++) memcpy(to + r * outputs, edge + r * PANEL, width);
        }
}

/* The sum of all lanes, in halves: in one order, and with few steps that wait for each other. */
INLINE float total(lanes x)
{
    whole lane;
    for (int i = 0; i < LANES; i++) lane[i] = i;
    for (int half = LANES / 2; half; half /= 2) x += __builtin_shuffle(x, lane ^ half);
    return x[0];
}

/* e^x from e^-87 to e^88, what is beyond as at that end, to 2 units in the last place; NaN stays NaN. */
INLINE lanes exponential(lanes x)
{
    const whole below = x < -87.0f, above = x > 88.0f;
    const lanes least = (lanes){0} - 87.0f, most = (lanes){0} + 88.0f;
    x = (lanes)((below & (whole)least) | (above & (whole)most) | (~(below | above) & (whole)x));
    const lanes shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f; /* rounds to a whole number */
    const lanes r = x - n * 0.693359375f + n * 2.12194440e-4f;
    lanes y = (lanes){0} + 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f, y = y * r + 8.3334519073e-3f, y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f, y = y * r + 5.0000001201e-1f, y = y * r * r + r + 1.0f;
    return y * (lanes)(((whole)shifted - 0x4b400000 + 127) << 23);
}

/* out [T, each, D] = x / sqrt(mean of x^2 + epsilon) weight: an RMS norm; tokens of x lie `stride` floats apart. */
void norm(const float *x, int64_t stride, int64_t tokens, int64_t each, int64_t inputs, const float *weight,
          float epsilon, float *out, int threads)
{
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < tokens * each; r++) {
        const float *from = x + r / each * stride + r % each * inputs;
        float *to = out + r * inputs, rest = 0;
        lanes sum = {0};
        int64_t d = 0;
        for (; d + LANES <= inputs; d += LANES) sum += *(const lanes *)(from + d) * *(const lanes *)(from + d);
        for (; d < inputs; d++) rest += from[d] * from[d];
        const float scale = 1 / __builtin_sqrtf((total(sum) + rest) / inputs + epsilon);
#pragma GCC ivdep
        for (d = 0; d < inputs; d++) to[d] = from[d] * scale * weight[d];
    }
}

/* out [T, F] = silu(gate) up, where x [T, 2 F] holds both: what opens a gated product. F is a multiple of WIDTHS. */
void gate(const float *x, int64_t tokens, int64_t width, float *out, int threads)
{
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t f = 0; f < width; f += LANES) {
            const float *from = x + 2 * t * width + f;
            const lanes opens = *(const lanes *)from, up = *(const lanes *)(from + width);
            *(lanes *)(out + t * width + f) = opens / (1.0f + exponential(-opens)) * up;
        }
}

/* Turns queries and keys by their positions (rotary: pairs x[i], x[i + E/2]), puts keys and values into their slots.
 *
 * heads [T, H + 2 K, E], of which the first H are turned in place; cos and sin [T, E], the first half of sin negated;
 * keys and values [slots, K, length, E]. */
void place(float *heads, int64_t tokens, int64_t query_heads, int64_t key_heads, int64_t width, const float *cos,
           const float *sin, float *keys, float *values, const int64_t *slots, const int64_t *positions, int64_t length,
           int threads)
{
    const int64_t each = query_heads + 2 * key_heads, half = width / 2;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t h = 0; h < each; h++) {
            float *from = heads + (t * each + h) * width, *to = from;
            const int64_t at = ((slots[t] * key_heads + (h - query_heads) % key_heads) * length + positions[t]) * width;
            if (h >= query_heads + key_heads) {
                memcpy(values + at, from, width * sizeof(float));
                continue;
            }
            if (h >= query_heads) to = keys + at;
            const float *c = cos + t * width, *s = sin + t * width;
#pragma GCC ivdep
            for (int64_t e = 0; e < half; e++) {
                const float low = from[e], high = from[e + half];
                to[e] = low * c[e] + high * s[e];
                to[e + half] = high * c[e + half] + low * s[e + half];
            }
        }
}

/* out = the sum of n vectors of each of the values [length, E], times its score, by the sum of all scores. */
INLINE void mix(const int n, const float *scores, const float *values, int64_t length, int64_t width, float all,
                float *out)
{
    lanes sum[16] = {{0}};
    for (int64_t l = 0; l < length; l++)
        UNROLL for (int v = 0; v < n; v++) sum[v] += scores[l] * *(const lanes *)(values + l * width + v * LANES);
    UNROLL for (int v = 0; v < n; v++) *(lanes *)(out + v * LANES) = sum[v] / all;
}

/* out [E]: one query of a head over the first `length` keys and values of [room, E] each.
 *
 * Meanwhile a part of the next head's, which lie behind them, is fetched: a line at `turn` and each `share` floats. */
static void attend_head(const float *query, const float *keys, const float *values, int64_t length, int64_t room,
                        int64_t width, float scale, int64_t turn, int64_t share, float *out)
{
    float scores[(length + LANES - 1) / LANES * LANES], most = -__builtin_inff();
    lanes sum = {0};
    for (int64_t l = 0; l < length; l++) {
        lanes products = {0};
        for (int64_t e = 0; e < width; e += LANES)
            products += *(const lanes *)(query + e) * *(const lanes *)(keys + l * width + e);
        for (; turn < (l + 1) * width; turn += share) {
            __builtin_prefetch(keys + room * width + turn, 0, 2);
            __builtin_prefetch(values + room * width + turn, 0, 2);
        }
        scores[l] = total(products) * scale;
        most = scores[l] > most ? scores[l] : most;
    }
    for (int64_t l = length; l % LANES; l++) scores[l] = -__builtin_inff(); /* e^-87: nothing beside the largest, 1 */
    for (int64_t l = 0; l < length; l += LANES) {
        lanes *at = (lanes *)(scores + l);
        sum += *at = exponential(*at - most);
    }
    const float all = total(sum);
    int64_t e = 0;
    for (; e + 4 * WIDTHS <= width; e += 4 * WIDTHS)
        mix(4 * WIDTHS / LANES, scores, values + e, length, width, all, out + e);
    for (; e < width; e += WIDTHS) mix(WIDTHS / LANES, scores, values + e, length, width, all, out + e);
}

/* Row r asks slot slots[r] up to positions[r]: query [R, H, E] with `stride` floats a row, out [R, H, E]; keys and
 * values [slots, K, length, E]. E is a multiple of WIDTHS. */
void attend(const float *query, int64_t stride, int64_t rows, int64_t query_heads, int64_t key_heads, int64_t width,
            const float *keys, const float *values, const int64_t *slots, const int64_t *positions, int64_t length,
            float scale, float *out, int threads)
{
    const int64_t group = query_heads / key_heads, line = LINE / sizeof(float);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < rows * key_heads; i++) {
        const int64_t r = i / key_heads, k = i % key_heads, at = (slots[r] * key_heads + k) * length * width;
        for (int64_t g = 0; g < group; g++) {
            const int64_t h = k * group + g;
            attend_head(query + r * stride + h * width, keys + at, values + at, positions[r] + 1, length, width, scale,
                        g * line, group * line, out + (r * query_heads + h) * width);
        }
    }
}
