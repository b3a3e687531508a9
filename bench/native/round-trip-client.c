/*
 * One client for every server: connects to each socket given, negotiates, then reads four bytes of BAR0 again and again, in
 * turns between the servers so that whatever else the machine does hits all alike. Sockets joined by commas count as one
 * server: all are connected, and read one after the other, but for those with a minus before them, which stay silent. Prints
 * the median and the 99th percentile of each server, in nanoseconds.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 16, COMMAND_VERSION = 1, COMMAND_REGION_READ = 9, BATCH = 500, MAX_SERVERS = 4, MAX_SOCKETS = 256 };

struct server {
    int sockets[MAX_SOCKETS];
    int count, next;
    uint32_t *samples;
};

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void exchange(int socket, uint16_t command, const void *payload, uint32_t length) {
    static uint16_t id;
    char buffer[4096];
    uint32_t size = HEADER + length, zero = 0;
    memcpy(buffer, &(uint16_t){++id}, 2);
    memcpy(buffer + 2, &command, 2);
    memcpy(buffer + 4, &size, 4);
    memcpy(buffer + 8, &zero, 4);
    memcpy(buffer + 12, &zero, 4);
    memcpy(buffer + HEADER, payload, length);
    if (send(socket, buffer, size, MSG_NOSIGNAL) != (ssize_t)size) fail("send");
    uint32_t expected = HEADER, got = 0;
    while (got < expected) {
        /* QEMU waits in poll too; a blocking recv would also be woken by the server's reading, and cost two switches more. */
        struct pollfd ready = {.fd = socket, .events = POLLIN};
        if (poll(&ready, 1, -1) != 1) fail("poll");
        ssize_t some = recv(socket, buffer + got, sizeof buffer - got, 0);
        if (some <= 0) fail("recv");
        got += (uint32_t)some;
        if (got >= HEADER) memcpy(&expected, buffer + 4, 4);
    }
    uint32_t error;
    memcpy(&error, buffer + 12, 4);
    if (error) {
        fprintf(stderr, "command %u answered with error %u\n", command, error);
        exit(1);
    }
}

static void read_register(int socket) {
    struct {
        uint64_t offset;
        uint32_t region, count;
    } request = {0, 0, 4};
    exchange(socket, COMMAND_REGION_READ, &request, sizeof request);
}

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(handle, (struct sockaddr *)&address, sizeof address)) fail(path);
    static const char version[] = "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}";
    exchange(handle, COMMAND_VERSION, version, sizeof version);
    return handle;
}

static void connect_all(struct server *server, char *paths) {
    for (char *path = strtok(paths, ","); path; path = strtok(NULL, ",")) {
        int silent = *path == '-', socket = connect_to(path + silent);
        if (silent) continue;
        if (server->count == MAX_SOCKETS) exit((fputs("too many sockets\n", stderr), 2));
        server->sockets[server->count++] = socket;
    }
    if (!server->count) exit((fputs("a server needs a socket to read from\n", stderr), 2));
}

static void read_next(struct server *server) {
    read_register(server->sockets[server->next]);
    if (++server->next == server->count) server->next = 0;
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 3 || argc - 2 > MAX_SERVERS) return fputs("usage: round-trip-client BATCHES SOCKET[,[-]SOCKET]...\n", stderr), 2;
    int batches = atoi(argv[1]), servers = argc - 2, total = batches * BATCH;
    static struct server all[MAX_SERVERS];
    for (int s = 0; s < servers; s++) {
        connect_all(&all[s], argv[2 + s]);
        all[s].samples = malloc((size_t)total * sizeof(uint32_t));
        for (int warm = 0; warm < 20 * BATCH; warm++) read_next(&all[s]);
    }
    for (int batch = 0; batch < batches; batch++)
        for (int s = 0; s < servers; s++)
            for (int n = 0; n < BATCH; n++) {
                uint64_t start = now();
                read_next(&all[s]);
                all[s].samples[batch * BATCH + n] = (uint32_t)(now() - start);
            }
    for (int s = 0; s < servers; s++) {
        qsort(all[s].samples, (size_t)total, sizeof(uint32_t), by_value);
        printf("%u %u\n", all[s].samples[total / 2], all[s].samples[(int)(total * 0.99)]);
    }
    return 0;
}
