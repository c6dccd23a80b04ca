// Loads a network into a Pleach engine by its registers, and classifies images: what a processor
// without a DMA does. docs/how-to/system.md says how to build it.
//
// In memory from DATA on, all words: the words of the .pleach file, how many they are before them;
// the number of classes; the number of images and the words of each; the images. What comes out
// goes to CONSOLE, a word each: the error of the LOAD, then the class of each image, or 0x100 and
// the error of its RUN.

#include "pleach.h"

typedef unsigned int word;

#define DATA ((const word *)0x4000)
#define CONSOLE (*(volatile word *)0x10000000)
#define REGISTER(offset) (*(volatile word *)(0x20000000 + (offset)))

__attribute__((naked, section(".start"))) void _start(void) {
  __asm__("li sp, 0x4000\n j main");
}

static void put(word value, int last) {
  while (!(REGISTER(PLEACH_STATE) & PLEACH_STATE_PACKET_READY_MASK)) {}
  REGISTER(last ? PLEACH_PACKET_LAST : PLEACH_PACKET_WORD) = value;
}

// A packet of a command and `count` words, one at least.
static void send(word command, const word *words, word count) {
  put(command, 0);
  for (word n = 0; n < count; n++) put(words[n], n + 1 == count);
}

// The next word of the answer; `last` says whether it is the last.
static word get(int *last) {
  word state;
  do state = REGISTER(PLEACH_STATE);
  while (!(state & PLEACH_STATE_ANSWER_VALID_MASK));
  *last = (state & PLEACH_STATE_ANSWER_LAST_MASK) != 0;
  return REGISTER(PLEACH_ANSWER_WORD);
}

static word error_of(word answer) {
  return (answer & PLEACH_LAST_ANSWER_ERROR_MASK) >> PLEACH_LAST_ANSWER_ERROR_LSB;
}

// The class with the largest output, the first of several; outputs are two int16 a word.
static word classify(const word *image, word words, word classes) {
  int last;
  send(PLEACH_COMMAND_RUN, image, words);
  word error = error_of(get(&last));
  if (error) return 0x100 | error;
  int best = -0x8000;
  word found = 0;
  for (word number = 0; !last; number += 2) {
    word pair = get(&last);
    int low = (short)pair, high = (short)(pair >> 16);
    if (low > best) best = low, found = number;
    if (number + 1 < classes && high > best) best = high, found = number + 1;
  }
  return found;
}

void main(void) {
  const word *data = DATA;
  int last;
  if (REGISTER(PLEACH_IDENTITY) != PLEACH_IDENTITY_VALUE) {
    CONSOLE = 0xFFFFFFFF;
    for (;;) {}
  }
  word length = *data++;
  send(PLEACH_COMMAND_LOAD, data, length);
  CONSOLE = error_of(get(&last));
  data += length;
  word classes = *data++, images = *data++, words = *data++;
  for (; images--; data += words) CONSOLE = classify(data, words, classes);
  for (;;) {}
}
