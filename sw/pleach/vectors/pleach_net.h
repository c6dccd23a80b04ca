/* A compressed network in C: what its engine answers, to the bit (docs/numerics.md of Pleach).
 *
 * Freestanding C99: no library, no malloc, no floating point. pleach_net.c has the arithmetic,
 * pleach_net_data.c the network; pleach_run is not reentrant, its maps are static. */
#ifndef PLEACH_NET_H
#define PLEACH_NET_H

#include <stdint.h>

/* A map is height x width pixels of channels values: pixel by pixel, channels innermost. */
typedef struct { int32_t height, width, channels; } pleach_map;

typedef enum { PLEACH_LAYER, PLEACH_MAX_POOL, PLEACH_SUM_POOL } pleach_kind;

typedef struct {
  pleach_kind kind;
  int32_t source, skip;               /* nodes that it takes; 0 is the input, skip -1: none */
  pleach_map in, out;
  int32_t kernel_height, kernel_width, stride_y, stride_x, top, left;
  int32_t pool;                       /* side of the windows of which the largest is kept */
  int32_t skip_width, skip_channels, skip_y, skip_x;
  int32_t bias;                       /* activation of the bias column; 0: there is none */
  int32_t shift, low, high, sign;
  const uint32_t *start;              /* of each column's weights, columns + 1 of them */
  const uint16_t *row;
  const int16_t *value;
  const int16_t *scale;               /* of each row, or null */
} pleach_node;

extern const pleach_node pleach_nodes[];
extern const int32_t pleach_node_count, pleach_inputs, pleach_outputs;
extern int16_t *const pleach_values[]; /* of the input and of each node */
extern int64_t pleach_sums[];          /* of one pixel */

/* Runs the network: pleach_inputs integers to pleach_outputs integers. */
void pleach_run(const int16_t *inputs, int16_t *outputs);

#endif
