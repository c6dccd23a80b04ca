/* Registers of a Pleach engine on AXI4-Lite: bytes from the bank's start, lowest bits
   and masks of fields, values. docs/registers.md of Pleach says what each is. */
#ifndef PLEACH_H
#define PLEACH_H

#define PLEACH_IDENTITY_VALUE 0x504c4541u
#define PLEACH_GATEWARE_VERSION 3
#define PLEACH_BANK_VERSION 1

/* what this is (read) */
#define PLEACH_IDENTITY 0x000
#define PLEACH_IDENTITY_IDENTITY_LSB 0
#define PLEACH_IDENTITY_IDENTITY_MASK 0xffffffffu

/* versions (read) */
#define PLEACH_VERSION 0x004
#define PLEACH_VERSION_GATEWARE_LSB 0
#define PLEACH_VERSION_GATEWARE_MASK 0xffffu
#define PLEACH_VERSION_BANK_LSB 16
#define PLEACH_VERSION_BANK_MASK 0xffff0000u

/* strobes (write) */
#define PLEACH_CONTROL 0x008
#define PLEACH_CONTROL_RESET_LSB 0
#define PLEACH_CONTROL_RESET_MASK 0x1u

/* what may be done now (read) */
#define PLEACH_STATE 0x00c
#define PLEACH_STATE_PACKET_READY_LSB 0
#define PLEACH_STATE_PACKET_READY_MASK 0x1u
#define PLEACH_STATE_ANSWER_VALID_LSB 1
#define PLEACH_STATE_ANSWER_VALID_MASK 0x2u
#define PLEACH_STATE_ANSWER_LAST_LSB 2
#define PLEACH_STATE_ANSWER_LAST_MASK 0x4u
#define PLEACH_STATE_BUSY_LSB 3
#define PLEACH_STATE_BUSY_MASK 0x8u

/* what happened; the interrupt line is 1 while one of them is enabled (read, a written 1 clears) */
#define PLEACH_INTERRUPT 0x010
#define PLEACH_INTERRUPT_ANSWER_LSB 0
#define PLEACH_INTERRUPT_ANSWER_MASK 0x1u
#define PLEACH_INTERRUPT_ERROR_LSB 1
#define PLEACH_INTERRUPT_ERROR_MASK 0x2u
#define PLEACH_INTERRUPT_BOOT_LSB 2
#define PLEACH_INTERRUPT_BOOT_MASK 0x4u

/* which of them interrupt (read, write) */
#define PLEACH_INTERRUPT_ENABLE 0x014
#define PLEACH_INTERRUPT_ENABLE_ANSWER_LSB 0
#define PLEACH_INTERRUPT_ENABLE_ANSWER_MASK 0x1u
#define PLEACH_INTERRUPT_ENABLE_ERROR_LSB 1
#define PLEACH_INTERRUPT_ENABLE_ERROR_MASK 0x2u
#define PLEACH_INTERRUPT_ENABLE_BOOT_LSB 2
#define PLEACH_INTERRUPT_ENABLE_BOOT_MASK 0x4u

/* first word of the last answer, to whomever it went (read) */
#define PLEACH_LAST_ANSWER 0x018
#define PLEACH_LAST_ANSWER_COMMAND_LSB 0
#define PLEACH_LAST_ANSWER_COMMAND_MASK 0xffu
#define PLEACH_LAST_ANSWER_ERROR_LSB 8
#define PLEACH_LAST_ANSWER_ERROR_MASK 0xff00u
#define PLEACH_LAST_ANSWER_DETAIL_LSB 16
#define PLEACH_LAST_ANSWER_DETAIL_MASK 0xffff0000u

/* counter (read) */
#define PLEACH_ANSWERS 0x01c
#define PLEACH_ANSWERS_COUNT_LSB 0
#define PLEACH_ANSWERS_COUNT_MASK 0xffffffffu

/* counter (read) */
#define PLEACH_ERRORS 0x020
#define PLEACH_ERRORS_COUNT_LSB 0
#define PLEACH_ERRORS_COUNT_MASK 0xffffffffu

/* counter (read) */
#define PLEACH_BUSY_CYCLES 0x024
#define PLEACH_BUSY_CYCLES_COUNT_LSB 0
#define PLEACH_BUSY_CYCLES_COUNT_MASK 0xffffffffu

/* a word of a packet; SLVERR, and nothing taken, where the queue is full (write) */
#define PLEACH_PACKET_WORD 0x040
#define PLEACH_PACKET_WORD_DATA_LSB 0
#define PLEACH_PACKET_WORD_DATA_MASK 0xffffffffu

/* the same, and the packet ends with it (write) */
#define PLEACH_PACKET_LAST 0x044
#define PLEACH_PACKET_LAST_DATA_LSB 0
#define PLEACH_PACKET_LAST_DATA_MASK 0xffffffffu

/* takes a word of an answer; SLVERR where the queue is empty (read) */
#define PLEACH_ANSWER_WORD 0x048
#define PLEACH_ANSWER_WORD_DATA_LSB 0
#define PLEACH_ANSWER_WORD_DATA_MASK 0xffffffffu

/* status word 0, as STATUS has it (read) */
#define PLEACH_STATUS_0 0x100
#define PLEACH_STATUS_0_VERSION_LSB 0
#define PLEACH_STATUS_0_VERSION_MASK 0xffffu
#define PLEACH_STATUS_0_MODEL_HELD_LSB 16
#define PLEACH_STATUS_0_MODEL_HELD_MASK 0x10000u
#define PLEACH_STATUS_0_BOOT_LSB 17
#define PLEACH_STATUS_0_BOOT_MASK 0xe0000u
#define PLEACH_STATUS_0_LOAD_ERROR_LSB 24
#define PLEACH_STATUS_0_LOAD_ERROR_MASK 0xff000000u

/* status word 1, as STATUS has it (read) */
#define PLEACH_STATUS_1 0x104
#define PLEACH_STATUS_1_PES_LSB 0
#define PLEACH_STATUS_1_PES_MASK 0xffu
#define PLEACH_STATUS_1_LANES_LSB 8
#define PLEACH_STATUS_1_LANES_MASK 0xff00u
#define PLEACH_STATUS_1_LAYERS_LSB 16
#define PLEACH_STATUS_1_LAYERS_MASK 0xff0000u
#define PLEACH_STATUS_1_ACCUMULATOR_BITS_LSB 24
#define PLEACH_STATUS_1_ACCUMULATOR_BITS_MASK 0xff000000u

/* status word 2, as STATUS has it (read) */
#define PLEACH_STATUS_2 0x108
#define PLEACH_STATUS_2_COLUMNS_LSB 0
#define PLEACH_STATUS_2_COLUMNS_MASK 0xffffffffu

/* status word 3, as STATUS has it (read) */
#define PLEACH_STATUS_3 0x10c
#define PLEACH_STATUS_3_ENTRIES_LSB 0
#define PLEACH_STATUS_3_ENTRIES_MASK 0xffffffffu

/* status word 4, as STATUS has it (read) */
#define PLEACH_STATUS_4 0x110
#define PLEACH_STATUS_4_CODEBOOK_LSB 0
#define PLEACH_STATUS_4_CODEBOOK_MASK 0xffffu
#define PLEACH_STATUS_4_ACCUMULATORS_LSB 16
#define PLEACH_STATUS_4_ACCUMULATORS_MASK 0xffff0000u

/* status word 5, as STATUS has it (read) */
#define PLEACH_STATUS_5 0x114
#define PLEACH_STATUS_5_QUEUE_DEPTH_LSB 0
#define PLEACH_STATUS_5_QUEUE_DEPTH_MASK 0xffffu
#define PLEACH_STATUS_5_GROUPS_LSB 16
#define PLEACH_STATUS_5_GROUPS_MASK 0xff0000u
#define PLEACH_STATUS_5_BLOCK_LSB 24
#define PLEACH_STATUS_5_BLOCK_MASK 0xff000000u

/* status word 6, as STATUS has it (read) */
#define PLEACH_STATUS_6 0x118
#define PLEACH_STATUS_6_MAPS_LSB 0
#define PLEACH_STATUS_6_MAPS_MASK 0xffffffu
#define PLEACH_STATUS_6_NEIGHBOURS_LSB 24
#define PLEACH_STATUS_6_NEIGHBOURS_MASK 0xff000000u

/* status word 7, as STATUS has it (read) */
#define PLEACH_STATUS_7 0x11c
#define PLEACH_STATUS_7_ENTRY_ROWS_LSB 0
#define PLEACH_STATUS_7_ENTRY_ROWS_MASK 0xffffu
#define PLEACH_STATUS_7_CODES_LSB 16
#define PLEACH_STATUS_7_CODES_MASK 0xffff0000u

/* status word 8, as STATUS has it (read) */
#define PLEACH_STATUS_8 0x120
#define PLEACH_STATUS_8_SCALES_LSB 0
#define PLEACH_STATUS_8_SCALES_MASK 0xffffu

/* status word 9, as STATUS has it (read) */
#define PLEACH_STATUS_9 0x124
#define PLEACH_STATUS_9_LOAD_CYCLES_LSB 0
#define PLEACH_STATUS_9_LOAD_CYCLES_MASK 0xffffffffu

/* status word 10, as STATUS has it (read) */
#define PLEACH_STATUS_10 0x128
#define PLEACH_STATUS_10_LATENCY_CYCLES_LSB 0
#define PLEACH_STATUS_10_LATENCY_CYCLES_MASK 0xffffffffu

/* one for each layer that the engine can hold; DECERR behind those (read) */
#define PLEACH_COMPUTE_CYCLES 0x12c
#define PLEACH_COMPUTE_CYCLES_COUNT 128
#define PLEACH_COMPUTE_CYCLES_CYCLES_LSB 0
#define PLEACH_COMPUTE_CYCLES_CYCLES_MASK 0xffffffffu

/* First words of packets. */
#define PLEACH_COMMAND_LOAD 0x504c4501u
#define PLEACH_COMMAND_RUN 0x504c4502u
#define PLEACH_COMMAND_STATUS 0x504c4503u
#define PLEACH_COMMAND_PLAN 0x504c4504u

/* last_answer.error, load_error: why the engine refused. */
#define PLEACH_ERROR_OK 0
#define PLEACH_ERROR_NO_MODEL 1
#define PLEACH_ERROR_BAD_COMMAND 2
#define PLEACH_ERROR_BAD_HEADER 3
#define PLEACH_ERROR_HEADER_CRC 4
#define PLEACH_ERROR_LENGTH 5
#define PLEACH_ERROR_SECTION_TYPE 6
#define PLEACH_ERROR_SECTION_CRC 7
#define PLEACH_ERROR_BAD_FIELD 8
#define PLEACH_ERROR_SHAPE 9
#define PLEACH_ERROR_BAD_TABLE 10
#define PLEACH_ERROR_DATA 11
#define PLEACH_ERROR_POSITION 12
#define PLEACH_ERROR_CAPACITY 13
#define PLEACH_ERROR_INPUT_LENGTH 14
#define PLEACH_ERROR_UNSUPPORTED 15
#define PLEACH_ERROR_PLAN 16

/* boot: what became of a network in flash. */
#define PLEACH_BOOT_NONE 0
#define PLEACH_BOOT_BUSY 1
#define PLEACH_BOOT_LOADED 2
#define PLEACH_BOOT_EMPTY 3
#define PLEACH_BOOT_DAMAGED 4
#define PLEACH_BOOT_REFUSED 5

#endif
