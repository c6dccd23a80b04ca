/* The arithmetic of a compressed network; pleach_net.h says what it takes. */
#include "pleach_net.h"

/* floor(sum / 2^shift), to nearest, ties upwards; a shift of negative numbers is left to no
 * compiler. */
static int64_t shifted(int64_t sum, int32_t shift) {
  if (shift > 0) sum += (int64_t)1 << (shift - 1);
  if (sum >= 0) return sum >> shift;
  return -((-sum - 1) >> shift) - 1;
}

static int16_t saturated(int64_t value) {
  return (int16_t)(value < -32768 ? -32768 : value > 32767 ? 32767 : value);
}

static int16_t requantised(const pleach_node *node, int32_t row, int64_t sum) {
  int16_t value;
  if (node->scale) sum *= node->scale[row];
  value = saturated(shifted(sum, node->shift));
  if (node->sign) return (int16_t)(value >= 0 ? node->high : node->low);
  return (int16_t)(value < node->low ? node->low : value > node->high ? node->high : value);
}

/* Every weight of a column times an activation. */
static void add(const pleach_node *node, int32_t column, int32_t activation) {
  uint32_t entry, end = node->start[column + 1];
  if (activation == 0) return;
  for (entry = node->start[column]; entry < end; entry++)
    pleach_sums[node->row[entry]] += (int32_t)node->value[entry] * activation;
}

static void layer(const pleach_node *node, const int16_t *in, const int16_t *skip, int16_t *out) {
  const pleach_map *map = &node->in;
  int32_t i, j, y, u, c, row, channels = map->channels, rows = node->out.channels;
  int32_t columns = node->kernel_height * node->kernel_width * channels;
  for (i = 0; i < node->out.height * node->pool; i++)
    for (j = 0; j < node->out.width * node->pool; j++) {
      int16_t *pixel = out + ((i / node->pool) * node->out.width + j / node->pool) * rows;
      for (row = 0; row < rows; row++) pleach_sums[row] = 0;
      for (y = 0; y < node->kernel_height; y++)
        for (u = 0; u < node->kernel_width; u++) {
          int32_t at_y = i * node->stride_y + y - node->top;
          int32_t at_x = j * node->stride_x + u - node->left;
          const int16_t *taken;
          if (at_y < 0 || at_y >= map->height || at_x < 0 || at_x >= map->width) continue;
          taken = in + (at_y * map->width + at_x) * channels;
          for (c = 0; c < channels; c++)
            add(node, (y * node->kernel_width + u) * channels + c, taken[c]);
        }
      if (skip) {
        const int16_t *taken =
            skip + (i * node->skip_y * node->skip_width + j * node->skip_x) * node->skip_channels;
        for (c = 0; c < node->skip_channels; c++) add(node, columns + c, taken[c]);
      }
      if (node->bias) add(node, columns + node->skip_channels, node->bias);
      for (row = 0; row < rows; row++) {
        int16_t value = requantised(node, row, pleach_sums[row]);
        int first = i % node->pool == 0 && j % node->pool == 0;
        if (first || value > pixel[row]) pixel[row] = value;
      }
    }
}

static void pooled(const pleach_node *node, const int16_t *in, int16_t *out) {
  const pleach_map *map = &node->in;
  int32_t i, j, y, u, c;
  for (i = 0; i < node->out.height; i++)
    for (j = 0; j < node->out.width; j++)
      for (c = 0; c < map->channels; c++) {
        int64_t found = node->kind == PLEACH_MAX_POOL ? -32768 : 0;
        for (y = 0; y < node->kernel_height; y++)
          for (u = 0; u < node->kernel_width; u++) {
            int32_t at_y = i * node->stride_y + y - node->top;
            int32_t at_x = j * node->stride_x + u - node->left;
            int16_t value;
            if (at_y < 0 || at_y >= map->height || at_x < 0 || at_x >= map->width) continue;
            value = in[(at_y * map->width + at_x) * map->channels + c];
            if (node->kind == PLEACH_SUM_POOL) found += value;
            else if (value > found) found = value;
          }
        if (node->kind == PLEACH_SUM_POOL) found = saturated(shifted(found, node->shift));
        *out++ = (int16_t)found;
      }
}

void pleach_run(const int16_t *inputs, int16_t *outputs) {
  int32_t number, value;
  for (value = 0; value < pleach_inputs; value++) pleach_values[0][value] = inputs[value];
  for (number = 0; number < pleach_node_count; number++) {
    const pleach_node *node = &pleach_nodes[number];
    const int16_t *in = pleach_values[node->source];
    int16_t *out = pleach_values[number + 1];
    if (node->kind == PLEACH_LAYER)
      layer(node, in, node->skip < 0 ? 0 : pleach_values[node->skip], out);
    else
      pooled(node, in, out);
  }
  for (value = 0; value < pleach_outputs; value++)
    outputs[value] = pleach_values[pleach_node_count][value];
}
