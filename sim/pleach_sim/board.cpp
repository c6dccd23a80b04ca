// A simulated board on a serial cable: drives the pins of `board` at a fixed number of cycles a bit
// and moves the bytes between them and a file descriptor, as fast as the simulation goes.
//
//     board FD CYCLES
//
// It ends when standard input does. While nothing is on the pins it sleeps between short stretches.

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "Vboard.h"
#include "verilated.h"

namespace {

constexpr int STRETCH = 500;      // cycles between looks at the descriptors
constexpr int QUIET = 20'000;     // cycles without a byte until it sleeps between stretches
constexpr int ASLEEP = 500'000;   // and until it sleeps long

// Bytes to the pin `rx`.
struct Transmitter {
    uint8_t bytes[4096];
    int count = 0, next = 0, left = 0, bits = 1;

    bool idle() const { return next == count && !left; }

    int step(int cycles) {
        if (!left) {
            if (next == count) return 1;
            bits = bytes[next++] << 1 | 0x200;
            left = 10 * cycles;
        }
        return bits >> (10 - (left-- + cycles - 1) / cycles) & 1;
    }
};

// Bytes from the pin `tx`.
struct Receiver {
    uint8_t bytes[4096];
    int count = 0, at = -1, bits = 0;

    void step(int level, int cycles) {
        if (at < 0) {
            if (level) return;
            at = 0;
            bits = 0;
        }
        const int bit = at / cycles;
        if (at % cycles == cycles / 2) {
            if (bit >= 1 && bit <= 8) bits |= level << (bit - 1);
            if (bit == 9) {
                if (level && count < int(sizeof bytes)) bytes[count++] = uint8_t(bits);
                at = -1;
                return;
            }
        }
        at++;
    }
};

bool over(int wait_ms, int serial) {
    pollfd both[] = {{STDIN_FILENO, POLLIN, 0}, {serial, POLLIN, 0}};
    poll(both, 2, wait_ms);
    if (!both[0].revents) return false;
    char byte;
    return read(STDIN_FILENO, &byte, 1) <= 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    const int serial = std::atoi(argv[1]), cycles = std::atoi(argv[2]);
    fcntl(serial, F_SETFL, fcntl(serial, F_GETFL) | O_NONBLOCK);
    Vboard board;
    Transmitter host;
    Receiver device;
    board.rx = 1;
    board.rst = 1;
    for (long cycle = 0, quiet = 0;; cycle++, quiet++) {
        if (cycle == 4) board.rst = 0;
        if (cycle % STRETCH == 0) {
            if (over(quiet < QUIET ? 0 : quiet < ASLEEP ? 1 : 20, serial)) return 0;
            if (host.next == host.count) {
                const ssize_t got = read(serial, host.bytes, sizeof host.bytes);
                host.next = 0;
                host.count = got > 0 ? int(got) : 0;
                if (got == 0) return 0;
            }
            for (int done = 0; done < device.count;) {
                const ssize_t put = write(serial, device.bytes + done, device.count - done);
                if (put > 0) done += int(put);
                // A cable that nobody reads loses bytes.
                else if (put == 0 || errno != EINTR) break;
            }
            device.count = 0;
        }
        if (!host.idle() || device.at >= 0) quiet = 0;
        board.rx = host.step(cycles);
        board.clk = 0;
        board.eval();
        board.clk = 1;
        board.eval();
        device.step(board.tx, cycles);
    }
}
