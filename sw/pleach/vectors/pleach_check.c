/* Runs the network on the vectors beside it and compares every output, and every layer's.
 *
 *   cc -O2 -o check pleach_check.c pleach_net.c pleach_net_data.c && ./check
 *
 * Numbers in inputs.txt, layers.txt and outputs.txt are decimal, in the order of the network. */
#include <stdio.h>

#include "pleach_net.h"

static int wrong(const char *what, long image, long place, int expected, int found) {
  printf("image %ld: %s value %ld is %d, must be %d\n", image, what, place, found, expected);
  return 1;
}

int main(void) {
  static int16_t inputs[1 << 24], outputs[65536];
  FILE *given = fopen("inputs.txt", "r");
  FILE *layers = fopen("layers.txt", "r");
  FILE *answers = fopen("outputs.txt", "r");
  long image = 0;
  int32_t value, number;
  int found, expected;
  if (!given || !layers || !answers) return puts("a file of vectors is missing"), 2;
  while (fscanf(given, "%d", &found) == 1) {
    inputs[0] = (int16_t)found;
    for (value = 1; value < pleach_inputs; value++) {
      if (fscanf(given, "%d", &found) != 1) return puts("inputs.txt ends too soon"), 2;
      inputs[value] = (int16_t)found;
    }
    pleach_run(inputs, outputs);
    for (number = 1; number <= pleach_node_count; number++) {
      const pleach_map *map = &pleach_nodes[number - 1].out;
      int32_t count = map->height * map->width * map->channels;
      for (value = 0; value < count; value++) {
        if (fscanf(layers, "%d", &expected) != 1) return puts("layers.txt ends too soon"), 2;
        found = pleach_values[number][value];
        if (found != expected) return wrong("a layer's", image, value, expected, found);
      }
    }
    for (value = 0; value < pleach_outputs; value++) {
      if (fscanf(answers, "%d", &expected) != 1) return puts("outputs.txt ends too soon"), 2;
      if (outputs[value] != expected)
        return wrong("output", image, value, expected, outputs[value]);
    }
    image++;
  }
  printf("%ld images, every layer and every output equal\n", image);
  return image ? 0 : 2;
}
