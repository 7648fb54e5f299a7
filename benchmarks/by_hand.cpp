// The benchmark's functions with derivatives written by hand, as a careful engineer would: one pass, no library.
// Compiled by peers.py with -O3 -march=native. All arrays are float64 and C-contiguous.

#include <cmath>
#include <cstddef>
#include <cstring>
#include <vector>

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C"
#endif
using std::size_t;

EXPORT void rosenbrock(size_t n, const double *x, double *value, double *grad) {
    double sum = 0.0;
    std::memset(grad, 0, n * sizeof(double));
    for (size_t i = 0; i + 1 < n; i++) {
        const double a = x[i + 1] - x[i] * x[i], b = 1.0 - x[i];
        sum += 100.0 * a * a + b * b;
        grad[i] -= 400.0 * a * x[i] + 2.0 * b;
        grad[i + 1] += 200.0 * a;
    }
    *value = sum;
}

EXPORT void smooth(size_t n, const double *x, double *value, double *grad) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double s = std::sin(x[i]), c = std::cos(x[i]), x2 = x[i] * x[i], e = std::exp(-x2);
        sum += s * e + std::log(1.0 + x2);
        grad[i] = e * (c - 2.0 * x[i] * s) + 2.0 * x[i] / (1.0 + x2);
    }
    *value = sum;
}

EXPORT void lorenz(size_t n, size_t steps, double h, const double *x0, double *value, double *grad) {
    std::vector<double> path((steps + 1) * n), back(n);
    std::memcpy(path.data(), x0, n * sizeof(double));
    for (size_t t = 0; t < steps; t++) {
        const double *x = &path[t * n];
        double *next = &path[(t + 1) * n];
        for (size_t i = 0; i < n; i++) {
            const size_t ahead = i + 1 < n ? i + 1 : 0, behind = i ? i - 1 : n - 1, far = i > 1 ? i - 2 : n + i - 2;
            next[i] = x[i] + h * ((x[ahead] - x[far]) * x[behind] - x[i] + 8.0);
        }
    }
    const double *last = &path[steps * n];
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += last[i] * last[i];
        grad[i] = 2.0 * last[i];
    }
    for (size_t t = steps; t-- > 0;) {
        const double *x = &path[t * n];
        for (size_t i = 0; i < n; i++) back[i] = grad[i] * (1.0 - h);
        for (size_t i = 0; i < n; i++) {
            const size_t ahead = i + 1 < n ? i + 1 : 0, behind = i ? i - 1 : n - 1, far = i > 1 ? i - 2 : n + i - 2;
            const double g = h * grad[i];
            back[ahead] += g * x[behind];
            back[far] -= g * x[behind];
            back[behind] += g * (x[ahead] - x[far]);
        }
        std::memcpy(grad, back.data(), n * sizeof(double));
    }
    *value = sum;
}

// One observation's 2 x 15 block: rotation vector, centre, focal length, principal point, two radii, point, weight.
static void block(const double *v, double *jac) {
    const double *r = v, *c = v + 3, f = v[6], *k = v + 9, *x = v + 11, w = v[14];
    const double theta = std::sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]), co = std::cos(theta), si = std::sin(theta);
    const double n[3] = {r[0] / theta, r[1] / theta, r[2] / theta}, p[3] = {x[0] - c[0], x[1] - c[1], x[2] - c[2]};
    const double cross[3] = {n[1] * p[2] - n[2] * p[1], n[2] * p[0] - n[0] * p[2], n[0] * p[1] - n[1] * p[0]};
    const double np = n[0] * p[0] + n[1] * p[1] + n[2] * p[2];
    const double hat_n[3][3] = {{0, -n[2], n[1]}, {n[2], 0, -n[0]}, {-n[1], n[0], 0}};
    const double hat_p[3][3] = {{0, -p[2], p[1]}, {p[2], 0, -p[0]}, {-p[1], p[0], 0}};
    double q[3], by_p[3][3], by_theta[3], by_n[3][3], by_r[3][3];
    for (int i = 0; i < 3; i++) {
        q[i] = p[i] * co + cross[i] * si + n[i] * np * (1.0 - co);
        by_theta[i] = -p[i] * si + cross[i] * co + n[i] * np * si;
        for (int j = 0; j < 3; j++) {
            by_p[i][j] = (i == j ? co : 0.0) + si * hat_n[i][j] + (1.0 - co) * n[i] * n[j];
            by_n[i][j] = -si * hat_p[i][j] + (1.0 - co) * ((i == j ? np : 0.0) + n[i] * p[j]);
        }
    }
    for (int i = 0; i < 3; i++) {
        const double along = by_n[i][0] * n[0] + by_n[i][1] * n[1] + by_n[i][2] * n[2];
        for (int j = 0; j < 3; j++) by_r[i][j] = by_theta[i] * n[j] + (by_n[i][j] - along * n[j]) / theta;
    }
    const double xy[2] = {q[0] / q[2], q[1] / q[2]}, rs = xy[0] * xy[0] + xy[1] * xy[1];
    const double lens = 1.0 + k[0] * rs + k[1] * rs * rs, slope = 2.0 * (k[0] + 2.0 * k[1] * rs);
    for (int i = 0; i < 2; i++) {
        const double to_xy[2] = {w * f * ((i == 0 ? lens : 0.0) + slope * xy[i] * xy[0]), w * f * ((i == 1 ? lens : 0.0) + slope * xy[i] * xy[1])};
        const double to_q[3] = {to_xy[0] / q[2], to_xy[1] / q[2], -(to_xy[0] * xy[0] + to_xy[1] * xy[1]) / q[2]};
        double *row = jac + 15 * i;
        for (int j = 0; j < 3; j++) {
            const double to_p = to_q[0] * by_p[0][j] + to_q[1] * by_p[1][j] + to_q[2] * by_p[2][j];
            row[j] = to_q[0] * by_r[0][j] + to_q[1] * by_r[1][j] + to_q[2] * by_r[2][j];
            row[3 + j] = -to_p;
            row[11 + j] = to_p;
        }
        row[6] = w * xy[i] * lens;
        row[7] = i == 0 ? w : 0.0;
        row[8] = i == 1 ? w : 0.0;
        row[9] = w * f * xy[i] * rs;
        row[10] = w * f * xy[i] * rs * rs;
        row[14] = xy[i] * lens * f + v[7 + i];
    }
}

EXPORT void bundle(size_t observations, const double *v, double *jac) {
    for (size_t i = 0; i < observations; i++) block(v + 15 * i, jac + 30 * i);
}

EXPORT void mixture(size_t n, size_t d, size_t k, const double *a, const double *mu, const double *factor, const double *x,
                    double *value, double *a_bar, double *mu_bar, double *factor_bar) {
    std::vector<double> delta(k * d), q(k * d), lp(k);
    double sum = 0.0;
    std::memset(a_bar, 0, k * sizeof(double));
    std::memset(mu_bar, 0, k * d * sizeof(double));
    std::memset(factor_bar, 0, k * d * d * sizeof(double));
    for (size_t i = 0; i < n; i++) {
        double top = -INFINITY, total = 0.0;
        for (size_t c = 0; c < k; c++) {
            double *dc = &delta[c * d], *qc = &q[c * d], square = 0.0;
            for (size_t j = 0; j < d; j++) dc[j] = x[i * d + j] - mu[c * d + j];
            for (size_t l = 0; l < d; l++) {
                double dot = 0.0;
                for (size_t j = 0; j < d; j++) dot += factor[(c * d + l) * d + j] * dc[j];
                qc[l] = dot;
                square += dot * dot;
            }
            lp[c] = a[c] - 0.5 * square;
            if (lp[c] > top) top = lp[c];
        }
        for (size_t c = 0; c < k; c++) total += (lp[c] = std::exp(lp[c] - top));
        sum += top + std::log(total);
        for (size_t c = 0; c < k; c++) {
            const double weight = lp[c] / total, *dc = &delta[c * d], *qc = &q[c * d];
            a_bar[c] += weight;
            for (size_t l = 0; l < d; l++) {
                const double g = weight * qc[l], *row = &factor[(c * d + l) * d];
                double *row_bar = &factor_bar[(c * d + l) * d], *m = &mu_bar[c * d];
                for (size_t j = 0; j < d; j++) {
                    row_bar[j] -= g * dc[j];
                    m[j] += g * row[j];
                }
            }
        }
    }
    *value = sum;
}

// out = tanh(tanh(x w1 + b1) w2 + b2), mean squared distance to y; all widths are `w`.
static void layer(size_t rows, size_t w, const double *x, const double *weights, const double *bias, double *out) {
    for (size_t i = 0; i < rows; i++) {
        double *row = out + i * w;
        std::memcpy(row, bias, w * sizeof(double));
        for (size_t l = 0; l < w; l++)
            for (size_t j = 0; j < w; j++) row[j] += x[i * w + l] * weights[l * w + j];
        for (size_t j = 0; j < w; j++) row[j] = std::tanh(row[j]);
    }
}

static void layer_back(size_t rows, size_t w, const double *x, const double *weights, const double *out, double *bar,
                       double *weights_bar, double *bias_bar, double *x_bar) {
    std::memset(weights_bar, 0, w * w * sizeof(double));
    std::memset(bias_bar, 0, w * sizeof(double));
    for (size_t i = 0; i < rows; i++) {
        double *g = bar + i * w;
        for (size_t j = 0; j < w; j++) bias_bar[j] += g[j] *= 1.0 - out[i * w + j] * out[i * w + j];
        for (size_t l = 0; l < w; l++) {
            for (size_t j = 0; j < w; j++) weights_bar[l * w + j] += x[i * w + l] * g[j];
            if (x_bar) {
                double dot = 0.0;
                for (size_t j = 0; j < w; j++) dot += weights[l * w + j] * g[j];
                x_bar[i * w + l] = dot;
            }
        }
    }
}

EXPORT void network(size_t rows, size_t w, const double *w1, const double *b1, const double *w2, const double *b2, const double *x,
                    const double *y, double *value, double *w1_bar, double *b1_bar, double *w2_bar, double *b2_bar) {
    std::vector<double> h(rows * w), out(rows * w), bar(rows * w), h_bar(rows * w);
    layer(rows, w, x, w1, b1, h.data());
    layer(rows, w, h.data(), w2, b2, out.data());
    double sum = 0.0;
    for (size_t i = 0; i < rows * w; i++) {
        const double e = out[i] - y[i];
        sum += e * e;
        bar[i] = 2.0 * e / double(rows * w);
    }
    *value = sum / double(rows * w);
    layer_back(rows, w, h.data(), w2, out.data(), bar.data(), w2_bar, b2_bar, h_bar.data());
    layer_back(rows, w, x, w1, h.data(), h_bar.data(), w1_bar, b1_bar, nullptr);
}
