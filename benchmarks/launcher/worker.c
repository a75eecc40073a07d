/* What a launcher is timed with: notes when it was entered (CLOCK_MONOTONIC, in ns), then does what it is told. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void note(const char *file, const char *what) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char line[128];
    const char *rank = getenv("RANK");
    int length = snprintf(line, sizeof line, "%s %s %lld\n", what, rank ? rank : "-", now.tv_sec * 1000000000LL + now.tv_nsec);
    int out = open(file, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (out < 0 || write(out, line, length) != length) _exit(9);
    close(out);
}

/* worker FILE end|sleep|fail-once|fail-first: `fail-once` fails in the first attempt, `fail-first` rank 0 alone, half a second on. */
int main(int count, char **arguments) {
    if (count != 3) return 8;
    note(arguments[1], "entered");
    const char *what = arguments[2], *restarts = getenv("TORCHELASTIC_RESTART_COUNT"), *rank = getenv("RANK");
    if (!strcmp(what, "fail-once") && restarts && !strcmp(restarts, "0")) {
        note(arguments[1], "failed");
        return 3;
    }
    if (!strcmp(what, "fail-first")) {
        if (!rank || strcmp(rank, "0")) {
            for (;;) pause();
        }
        usleep(500000);
        note(arguments[1], "failed");
        return 3;
    }
    if (!strcmp(what, "sleep")) {
        for (;;) pause();
    }
    return 0;
}
