/* floatx: linear layers on 3..8-bit floating-point weights.
 *
 *     y[m,n] = x[m,k] . W[n,k]^T (+ bias[n])
 *
 * W is stored as EyMz codes (1 sign bit, y exponent bits, z mantissa bits) with one scale for each
 * group of codes along k. x and y are ordinary floating point; products are accumulated in FP32.
 *
 * The life of a weight:
 *
 *     1. describe it        floatx_weight weight = {.struct_size = sizeof weight, ...};
 *     2. ask for its sizes  floatx_weight_sizes(&weight, &sizes);
 *     3. own the memory     weight.codes = ..., weight.scales = ...;
 *     4. fill it            floatx_pack (from values) or floatx_repack (from a checkpoint's codes)
 *     5. use it             floatx_linear(&weight, ...), from any number of threads at once
 *
 * Words. A *code* is the bit pattern of one value. A *format* is (E, M, specials). A *scale* is the
 * factor of a *group* of codes adjacent along k; group_size 0 means one scale for each row. A
 * *layout* is where the codes and scales lie in memory: *canonical* is the portable bitstream that
 * checkpoints hold, the others are a backend's own arrangement of the same codes. Strides count
 * elements, not bytes.
 *
 * Memory. floatx owns none: every buffer is the caller's. No function allocates device memory,
 * synchronises a stream, prints, exits or throws; there is no global state. Host functions may use
 * small temporary allocations of host memory and then report FLOATX_STATUS_OUT_OF_MEMORY.
 *
 * Errors. Every fallible function returns a floatx_status; floatx_last_error() then holds a sentence
 * that names the argument, its value and the rule. On an error from a host call nothing has been
 * written to the caller's buffers.
 *
 * Threads. All functions may be called from several threads at once, on the same weight too, as long
 * as nobody writes what another reads.
 *
 * Structs that begin with struct_size must have it set to their sizeof. A struct from a newer header
 * is accepted while the fields this library does not know are zero.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FLOATX_H
#define FLOATX_H

#include <stddef.h>
#include <stdint.h>

#define FLOATX_VERSION_MAJOR 0
#define FLOATX_VERSION_MINOR 1
#define FLOATX_VERSION_PATCH 0
#define FLOATX_VERSION (FLOATX_VERSION_MAJOR * 10000 + FLOATX_VERSION_MINOR * 100 + FLOATX_VERSION_PATCH)

#if defined(__GNUC__)
#define FLOATX_API __attribute__((visibility("default")))
#else
#define FLOATX_API
#endif

/* In C++ too, every 32-bit value may be stored in an enum and is refused rather than undefined. */
#ifdef __cplusplus
#define FLOATX_ENUM_ : int32_t
extern "C" {
#else
#define FLOATX_ENUM_
#endif

/* A CUDA stream (cudaStream_t and CUstream are pointers to it); no CUDA header is needed here. */
struct CUstream_st;

/* ---- Version, status, messages ------------------------------------------------------------------ */

/* FLOATX_VERSION of the library that is running, which may be newer than this header's. */
FLOATX_API int floatx_version(void);

/* The same as text, "0.1.0". Static storage. */
FLOATX_API const char *floatx_version_string(void);

/* Values are pinned: they never change their meaning. */
typedef enum floatx_status FLOATX_ENUM_ {
  FLOATX_STATUS_OK = 0,
  FLOATX_STATUS_INVALID_ARGUMENT = 1, /* the call breaks a rule written in this header */
  FLOATX_STATUS_UNSUPPORTED = 2,      /* a valid request that this build or machine cannot serve */
  FLOATX_STATUS_INVALID_DATA = 3,     /* NaN or Inf in the data, or a scale outside its type's range */
  FLOATX_STATUS_OUT_OF_MEMORY = 4,    /* a temporary host allocation or a thread could not be had */
  FLOATX_STATUS_CUDA_ERROR = 5,       /* the CUDA runtime reported an error; the message has its name */
  FLOATX_STATUS_INTERNAL = 6,         /* a defect of floatx; please report it */
  FLOATX_STATUS_RANGE_ = 0x7fffffff
} floatx_status;

/* The name of a status, "invalid argument". Static storage; never NULL, also for unknown values. */
FLOATX_API const char *floatx_status_string(floatx_status status);

/* The message of the last failed call on this thread; "" before the first. Valid until the next
 * failed call on the same thread. A successful call leaves it as it is. */
FLOATX_API const char *floatx_last_error(void);

/* ---- Types -------------------------------------------------------------------------------------- */

/* Element type of x, y, bias and of dense weights. */
typedef enum floatx_type FLOATX_ENUM_ {
  FLOATX_TYPE_F32 = 0,
  FLOATX_TYPE_F16 = 1,  /* IEEE binary16 */
  FLOATX_TYPE_BF16 = 2, /* upper half of binary32 */
  FLOATX_TYPE_RANGE_ = 0x7fffffff
} floatx_type;

/* Storage type of the scales. */
typedef enum floatx_scale_type FLOATX_ENUM_ {
  FLOATX_SCALE_F32 = 0,
  FLOATX_SCALE_F16 = 1,
  FLOATX_SCALE_BF16 = 2,
  FLOATX_SCALE_E8M0 = 3,   /* a power of two, 2^(byte - 127), byte 255 is NaN (OCP MX) */
  FLOATX_SCALE_E4M3FN = 4, /* times one FP32 tensor scale (NVFP4) */
  FLOATX_SCALE_RANGE_ = 0x7fffffff
} floatx_scale_type;

/* Weight formats. The value spells E and M in hexadecimal; 0x1.. marks the OCP 8-bit formats.
 *
 * Bias is 2^(E-1) - 1. Exponent field 0 is subnormal. In formats of up to 7 bits the all-ones exponent
 * is an ordinary number: there is no Inf and no NaN, and max = 2^(2^E-1-bias) * (2 - 2^-M). Negative
 * zero exists. e4m3fn and e5m2 follow the OCP 8-bit specification. */
typedef enum floatx_format FLOATX_ENUM_ {
  FLOATX_FORMAT_E1M1 = 0x11, /* 3 bits */
  FLOATX_FORMAT_E2M0 = 0x20,
  FLOATX_FORMAT_E1M2 = 0x12, /* 4 bits */
  FLOATX_FORMAT_E2M1 = 0x21, /* MXFP4, NVFP4 */
  FLOATX_FORMAT_E3M0 = 0x30,
  FLOATX_FORMAT_E1M3 = 0x13, /* 5 bits */
  FLOATX_FORMAT_E2M2 = 0x22,
  FLOATX_FORMAT_E3M1 = 0x31,
  FLOATX_FORMAT_E4M0 = 0x40,
  FLOATX_FORMAT_E1M4 = 0x14, /* 6 bits */
  FLOATX_FORMAT_E2M3 = 0x23, /* MXFP6 */
  FLOATX_FORMAT_E3M2 = 0x32, /* MXFP6, FP6-LLM */
  FLOATX_FORMAT_E4M1 = 0x41,
  FLOATX_FORMAT_E5M0 = 0x50,
  FLOATX_FORMAT_E1M5 = 0x15, /* 7 bits */
  FLOATX_FORMAT_E2M4 = 0x24,
  FLOATX_FORMAT_E3M3 = 0x33,
  FLOATX_FORMAT_E4M2 = 0x42,
  FLOATX_FORMAT_E5M1 = 0x51,
  FLOATX_FORMAT_E6M0 = 0x60,
  FLOATX_FORMAT_E4M3FN = 0x143, /* 8 bits: max 448, NaN at 0x7f and 0xff, no Inf */
  FLOATX_FORMAT_E5M2 = 0x152,   /* 8 bits: IEEE-like, max 57344, Inf and NaN */
  FLOATX_FORMAT_RANGE_ = 0x7fffffff
} floatx_format;

/* Where codes and scales lie. Every layout holds the same codes; floatx_repack moves between them. */
typedef enum floatx_layout FLOATX_ENUM_ {
  /* Codes along k, least significant bit first, row after row, each row padded to a byte with zero
   * bits: ceil(k * bits / 8) bytes a row. Scales row after row: [n] for group_size 0, else
   * [n, ceil(k / group_size)]. This is what checkpoints hold. Host memory; no alignment. */
  FLOATX_LAYOUT_CANONICAL = 0,
  /* The CPU backend's arrangement. Host memory, aligned to 64 bytes. */
  FLOATX_LAYOUT_CPU = 1,
  /* The GPU arrangement, one for every GPU (floatx/layout.hpp). Aligned to 16 bytes. It can be made
   * in host memory, in builds without CUDA too, and copied to the device. Exponents of up to 5 bits. */
  FLOATX_LAYOUT_CUDA = 2,
  FLOATX_LAYOUT_RANGE_ = 0x7fffffff
} floatx_layout;

/* ---- Format helpers ----------------------------------------------------------------------------- */

typedef struct floatx_format_info {
  size_t struct_size;
  const char *name; /* "e3m2"; static storage */
  int32_t bits;     /* 1 + exponent_bits + mantissa_bits */
  int32_t exponent_bits;
  int32_t mantissa_bits;
  int32_t bias;
  float max;                /* largest finite magnitude */
  float smallest_normal;    /* 2^(1-bias) */
  float smallest_subnormal; /* 2^(1-bias-M); equal to smallest_normal when M is 0 */
  int32_t has_infinity;
  int32_t has_nan;
} floatx_format_info;

/* All formats, in the order of the enum above: index 0 .. floatx_format_count() - 1. Static storage. */
FLOATX_API size_t floatx_format_count(void);
FLOATX_API const floatx_format *floatx_format_list(void);

/* Looks a format up by its name, as ml_dtypes spells it: "e3m2", "float6_e3m2fn", case ignored.
 *   name    NUL-terminated.
 *   format  receives the value.
 * Statuses: OK; INVALID_ARGUMENT for NULL or an unknown name. */
FLOATX_API floatx_status floatx_format_parse(const char *name, floatx_format *format);

/* Describes a format. info->struct_size must be set.
 * Statuses: OK; INVALID_ARGUMENT for an unknown format or NULL; UNSUPPORTED for a struct_size whose
 * unknown fields are not zero. */
FLOATX_API floatx_status floatx_format_describe(floatx_format format, floatx_format_info *info);

/* One value. encode: round to nearest, ties to the even code, saturating at +-max, subnormals kept,
 * the sign of zero kept; NaN is refused with INVALID_DATA and Inf saturates. decode: exact; bits of
 * code above the format's width must be zero.
 * Statuses: OK; INVALID_ARGUMENT; INVALID_DATA. */
FLOATX_API floatx_status floatx_format_encode(floatx_format format, float value, uint8_t *code);
FLOATX_API floatx_status floatx_format_decode(floatx_format format, uint8_t code, float *value);

/* ---- Threads and execution ---------------------------------------------------------------------- */

/* The threads that host functions may use. Results never depend on their number. */
typedef struct floatx_threads floatx_threads;

/* Runs task(argument, index) once for every index in [0, count), in any order and on any threads, and
 * returns when all have finished. */
typedef void (*floatx_parallel_for)(void *pool, int32_t count, void (*task)(void *argument, int32_t index),
                                    void *argument);

/* Makes a set of threads.
 *   count     how many run at once, the caller's included; 0 = one for each processor this process may
 *             use.
 *   run       NULL: floatx starts count - 1 workers, which sleep between calls. Otherwise the caller's
 *             own pool: run(pool, ...) is called and nothing is started.
 *   pool      passed on to run; ignored when run is NULL.
 *   threads   receives the handle. Freed by floatx_threads_destroy.
 * A handle serves one call at a time; further calls at the same moment wait their turn.
 * Statuses: OK; INVALID_ARGUMENT (count < 0 or > 1024, threads NULL); OUT_OF_MEMORY. */
FLOATX_API floatx_status floatx_threads_create(int32_t count, floatx_parallel_for run, void *pool,
                                               floatx_threads **threads);

/* Ends the workers. NULL does nothing. No call may be using the handle. */
FLOATX_API void floatx_threads_destroy(floatx_threads *threads);

/* Which memory the buffers of a call live in, and so which processor does the work. */
typedef enum floatx_memory FLOATX_ENUM_ {
  FLOATX_MEMORY_HOST = 0,
  FLOATX_MEMORY_DEVICE = 1, /* of the current CUDA device; the work is enqueued on execution->stream */
  FLOATX_MEMORY_RANGE_ = 0x7fffffff
} floatx_memory;

/* What a device call found wrong in its data. Written on the stream, because the call returns before
 * the data have been looked at. status is FLOATX_STATUS_OK or FLOATX_STATUS_INVALID_DATA; row and
 * column name one offending element, else -1. */
typedef struct floatx_report {
  int32_t status;
  int32_t reserved;
  int64_t row;
  int64_t column;
} floatx_report;

/* The kernel may start before the previous one on the stream has ended (programmatic dependent launch);
 * it waits for it before it reads x. The weight must not be written by that previous kernel, for it is read
 * meanwhile: into shared memory and, up to 192 KB for each multiprocessor, into the L2 cache. y is the same
 * to the bit as without. */
#define FLOATX_EXECUTION_PROGRAMMATIC_LAUNCH 1u

/* Weights are multiplied as they are: code times scale, unrounded. Else CUDA may, from 9 tokens on, first
 * round the product of a code and its group's scale to x_type, see floatx_linear; that is faster, by far
 * where tokens are many. No difference with one scale a row, which comes in at the end, or on the host. */
#define FLOATX_EXECUTION_EXACT_WEIGHTS 2u

/* How a call runs. Every function takes NULL for: host memory, default threads, no workspace. */
typedef struct floatx_execution {
  size_t struct_size;
  floatx_memory memory;
  uint32_t flags; /* FLOATX_EXECUTION_* or 0 */
  /* Host: NULL = as many threads as the work is worth, up to one for each processor, started for this
   * call. Hand in a handle to save that start (some 20 microseconds). Device: ignored. */
  floatx_threads *threads;
  /* Device: the stream, NULL = the default stream. Host: ignored. */
  struct CUstream_st *stream;
  /* Scratch memory in `memory`, aligned to 64 bytes. Calls that overlap in time need one each. With less
   * than floatx_workspace_bytes() a call is still right, but may be slower.
   * Host: contents do not matter. Device: all of it must be zero before the first floatx_linear that uses
   * it (one cudaMemset after it was allocated); each floatx_linear leaves it fit for the next, of any shape.
   * Other use of the memory in between must zero it again. The other operations need none. */
  void *workspace;
  size_t workspace_bytes;
  /* Device: receives what was wrong with the data, in device or pinned memory, aligned to 8 bytes;
   * NULL = not wanted. Host: ignored (the status tells). */
  floatx_report *report;
} floatx_execution;

/* Whether weights of this layout can be multiplied here: OK, or UNSUPPORTED with the reason in
 * floatx_last_error(): built without CUDA, no usable GPU, canonical layout. */
FLOATX_API floatx_status floatx_layout_usable(floatx_layout layout);

/* The instruction set that the CPU backend chose on this machine, "avx512_vbmi". Static storage. */
FLOATX_API const char *floatx_cpu_isa(void);

/* ---- Weights ------------------------------------------------------------------------------------ */

/* A weight W[n,k] and where it lies. Fill the description, ask for the sizes, then set the pointers. */
typedef struct floatx_weight {
  size_t struct_size;
  floatx_format format;
  floatx_layout layout;
  int64_t n; /* out features, rows: 1 .. 2^31 - 1 */
  int64_t k; /* in features, columns: 1 .. 2^31 - 1 */
  /* Codes along k that share a scale: 0 (a whole row), 16, 32, 64 or 128. k need not be a multiple:
   * the last group of a row is then shorter. */
  int64_t group_size;
  floatx_scale_type scale_type;
  /* 0 = the layout's current version. Store floatx_sizes::layout_version next to packed bytes that
   * outlive the process, and set it here when they are read back. */
  int32_t layout_version;
  void *codes;
  size_t codes_bytes; /* capacity of codes */
  void *scales;
  size_t scales_bytes; /* capacity of scales */
  /* FLOATX_SCALE_E4M3FN only: one FP32 that multiplies every scale, aligned to 4 bytes. Else NULL. */
  float *tensor_scale;
} floatx_weight;

typedef struct floatx_sizes {
  size_t struct_size;
  size_t codes_bytes;
  size_t scales_bytes;
  size_t alignment; /* of codes and scales, in bytes; canonical scales: that of their type */
  int32_t layout_version;
} floatx_sizes;

/* The bytes that a weight needs.
 *   weight  description only: the pointers and their capacities are not read.
 *   sizes   struct_size must be set; the rest is filled in.
 * Statuses: OK; INVALID_ARGUMENT (also when a size would overflow); UNSUPPORTED (a layout that does not
 * hold the format, an unknown layout version, a newer struct). */
FLOATX_API floatx_status floatx_weight_sizes(const floatx_weight *weight, floatx_sizes *sizes);

typedef enum floatx_operation FLOATX_ENUM_ {
  FLOATX_OPERATION_PACK = 0,
  FLOATX_OPERATION_UNPACK = 1,
  FLOATX_OPERATION_REPACK = 2, /* and slice */
  FLOATX_OPERATION_LINEAR = 3,
  FLOATX_OPERATION_RANGE_ = 0x7fffffff
} floatx_operation;

/* The workspace with which an operation on this weight runs at full speed; never an upper bound on
 * correctness (see floatx_execution::workspace).
 *   weight  description only.
 *   m       LINEAR: the largest m that will be used; it covers every smaller m. Otherwise ignored.
 *   x_type  LINEAR: the type of x; otherwise the type of the dense values.
 *   bytes   receives the size; may be 0.
 * Statuses: as floatx_weight_sizes. */
FLOATX_API floatx_status floatx_workspace_bytes(const floatx_weight *weight, floatx_operation operation,
                                                floatx_memory memory, int64_t m, floatx_type x_type,
                                                size_t *bytes);

/* What the codes are computed from. */
typedef enum floatx_scale_rule FLOATX_ENUM_ {
  FLOATX_SCALE_RULE_STORED = 0,    /* encode(w / stored scale): the default */
  FLOATX_SCALE_RULE_UNROUNDED = 1, /* encode(w / scale before rounding to its type); not for E8M0 */
  FLOATX_SCALE_RULE_RANGE_ = 0x7fffffff
} floatx_scale_rule;

/* E8M0 scales only: how log2(absmax) becomes an integer. */
typedef enum floatx_exponent_rule FLOATX_ENUM_ {
  FLOATX_EXPONENT_RULE_FLOOR = 0, /* OCP MX */
  FLOATX_EXPONENT_RULE_CEIL = 1,
  FLOATX_EXPONENT_RULE_RANGE_ = 0x7fffffff
} floatx_exponent_rule;

typedef struct floatx_pack_options {
  size_t struct_size;
  floatx_scale_rule scale_rule;
  floatx_exponent_rule exponent_rule;
} floatx_pack_options;

/* Quantizes W[n,k] and writes codes and scales in the weight's layout (FLOATX_LAYOUT_CANONICAL too).
 *
 *     s     = max(absmax of the group, 1e-12) / max(format)      IEEE division in FP32
 *     scale = s rounded to scale_type
 *     code  = encode(w / float(scale)), 0 where float(scale) is 0
 *
 *   E8M0:   scale = 2^(floor(log2 absmax) - floor(log2 max(format))), clamped to 2^-127 .. 2^127;
 *           2^-127 for a group of zeros.
 *   E4M3FN: t = max(absmax of the tensor, 1e-12) / (max(format) * 448), written to tensor_scale;
 *           scale = s / t rounded to e4m3fn, saturating; code = encode(w / (float(scale) * t)).
 *
 *   weight         codes, scales (and tensor_scale) are written; padding is written as zero codes.
 *   values         [n, k] of values_type, row-major, aligned to its element; no overlap with the weight.
 *   values_stride  elements from one row to the next, >= k.
 *   options        NULL = the defaults.
 *   execution      NULL = host. memory applies to values and to every buffer of the weight.
 * Stream: device work is enqueued on execution->stream; nothing is waited for.
 * Determinism: bit-identical on every backend, for every number of threads.
 * Statuses: OK; INVALID_ARGUMENT; UNSUPPORTED; INVALID_DATA with row and column in the message for NaN
 * or Inf in values, and for an F16 scale of a nonzero group that overflows or becomes 0 (use F32);
 * OUT_OF_MEMORY; CUDA_ERROR. On the device INVALID_DATA goes to execution->report and the contents of
 * the weight are then unspecified.
 * Since 0.1. */
FLOATX_API floatx_status floatx_pack(const floatx_weight *weight, floatx_type values_type, const void *values,
                                     int64_t values_stride, const floatx_pack_options *options,
                                     const floatx_execution *execution);

/* The values of a weight: values[n,k] = decode(code) * float(scale) (* tensor_scale, with the scales'
 * product formed first), computed in FP32 and rounded once to values_type.
 *
 *   values         [n, k] of values_type, row-major, aligned to its element; written; no overlap.
 *   values_stride  elements from one row to the next, >= k. Elements between rows are left alone.
 *   others         as floatx_pack.
 * Statuses: as floatx_pack. Since 0.1. */
FLOATX_API floatx_status floatx_unpack(const floatx_weight *weight, floatx_type values_type, void *values,
                                       int64_t values_stride, const floatx_execution *execution);

/* Moves codes and scales from one layout to another without changing a bit of them: a checkpoint's
 * canonical tensors into a backend's layout, and back.
 *
 *   source  read. From the canonical layout, NaN and Inf codes (e4m3fn, e5m2) and scales that are NaN or
 *           Inf, of any type, are refused with INVALID_DATA: the message names the row and the column, for a
 *           scale the first of its group. So is a tensor_scale that is NaN or Inf.
 *   target  written; same n, k, format, group_size and scale_type; no overlap with source.
 * Other arguments, stream, determinism and statuses: as floatx_pack. Since 0.1. */
FLOATX_API floatx_status floatx_repack(const floatx_weight *source, const floatx_weight *target,
                                       const floatx_execution *execution);

/* Cuts a window out of a weight, for tensor parallelism: target[i, j] = source[row_begin + i, k_begin + j]
 * for i < target->n, j < target->k. Layouts may differ, as in floatx_repack.
 *
 *   row_begin  0 <= row_begin, row_begin + target->n <= source->n.
 *   k_begin    0 <= k_begin, k_begin + target->k <= source->k; with groups, a multiple of group_size
 *              and the window's end too, unless it is the end of the row.
 * Other arguments and statuses: as floatx_repack. Since 0.1. */
FLOATX_API floatx_status floatx_slice(const floatx_weight *source, int64_t row_begin, int64_t k_begin,
                                      const floatx_weight *target, const floatx_execution *execution);

/* ---- The linear layer --------------------------------------------------------------------------- */

/* y[m,n] = x[m,k] . W[n,k]^T (+ bias[n])
 *
 *   weight    packed for the CPU (memory = host) or for CUDA (memory = device); not canonical.
 *   m         rows of x and y (tokens): 1 .. 2^31 - 1.
 *   x         [m, k] of x_type, row-major, aligned to its element. CUDA is fastest where every row is
 *             aligned to 16 bytes: x itself, and x_stride a multiple of 8.
 *   x_stride  elements from one row of x to the next, >= k.
 *   bias      [n] of y_type, or NULL for none.
 *   y         [m, n] of y_type, row-major, aligned to its element; written, never read. It must not
 *             overlap anything else in the call.
 *   y_stride  elements from one row of y to the next, >= n. Elements between rows are left alone.
 *   execution NULL = host, default threads.
 * Types: the CPU takes any x_type with any y_type; CUDA takes F16 and BF16, y_type = x_type.
 * Arithmetic: products and sums in FP32, one rounding to y_type at the end; NaN and Inf in x reach
 * exactly the rows of y that IEEE arithmetic sends them to.
 * Rounded weights: with scales of groups and 9 tokens or more, CUDA may multiply by weights that are rounded
 * to x_type, as if they had been dequantized first: code times scale, to nearest, relative error 2^-11 (F16)
 * or 2^-8 (BF16), and before that the scale, where x_type does not hold it. More is lost of weights that are
 * 2^14 times smaller than the format's smallest normal number times the largest scale of their row (F16), or
 * below 2^-126 or 2^125 times smaller than the largest scale of their row (BF16). Nothing is rounded with
 * E4M3FN scales, unless x is BF16 and the format has more than 3 mantissa bits.
 * FLOATX_EXECUTION_EXACT_WEIGHTS rules all of this out, but for such small weights with E8M0 scales and BF16
 * x.
 * Stream: enqueued on execution->stream, nothing is waited for; can be captured in a CUDA graph.
 * Determinism: the same shape on the same kind of processor gives the same bits, whatever the threads,
 * the stream or the address of the buffers; on CUDA with the same workspace_bytes, and rows of x that are
 * all aligned to 16 bytes may give others than rows that are not.
 * Statuses: OK; INVALID_ARGUMENT; UNSUPPORTED; OUT_OF_MEMORY; CUDA_ERROR.
 * Since 0.1. */
FLOATX_API floatx_status floatx_linear(const floatx_weight *weight, int64_t m, floatx_type x_type, const void *x,
                                       int64_t x_stride, const void *bias, floatx_type y_type, void *y,
                                       int64_t y_stride, const floatx_execution *execution);

#ifdef __cplusplus
}
#endif

#endif /* FLOATX_H */
