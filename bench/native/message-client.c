/*
 * One client for every server: connects to each socket given, negotiates, then does one thing again and again, in turns between the
 * servers so that whatever else the machine does hits all alike. Sockets joined by commas count as one server: all are connected,
 * and used one after the other, but for those with a minus before them, which stay silent. `N*` before a socket: that many DMA
 * regions of a page each, every other page, are mapped there first. Prints the median and the 99th percentile of each server, in
 * nanoseconds.
 *
 * What is done:
 *   read         reads a register
 *   write-read   posts a write of a register, and reads it
 *   message-dma  has the device fetch 64 bytes of a region without descriptor, one region after the other, and answers what it asks
 *   message-dma-done  the same until the device says that it is done, which may take reads more
 *   mapped-dma   the same of a region that is mapped
 *   posted       posts writes; a read waits for the last. The time is that of one write, over a batch
 *   message-map  takes a region without descriptor away and gives it again, one region after the other
 *   mapped-map   the same of a region that is mapped
 */
#include "messages.h"

enum { BATCH = 500, MAX_SERVERS = 8, MAX_SOCKETS = 256, WARM_UP = 20, POSTED_BATCH = 4000, DMA_BYTES = 64, PAGE = 4096 };
/* Prime, so that every one of fewer regions is reached, and none is near the one before. */
enum { STRIDE = 40503 };

struct endpoint {
    int socket;
    uint32_t regions, at;
    int memory;
};

struct server {
    struct endpoint endpoints[MAX_SOCKETS];
    int count, next;
    uint32_t *samples;
};

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* When what is measured was over, where that is not the end of the work. */
static uint64_t stopped;

static void stop(void) { stopped = now(); }

static void deliver(int socket, uint16_t command, uint32_t flags, uint16_t id, const void *payload, size_t length, int descriptor) {
    char buffer[512], control[CMSG_SPACE(sizeof(int))];
    struct header header = {id, command, (uint32_t)(sizeof header + length), flags, 0};
    memcpy(buffer, &header, sizeof header);
    memcpy(buffer + sizeof header, payload, length);
    if (descriptor < 0) {
        if (send(socket, buffer, header.size, MSG_NOSIGNAL) != (ssize_t)header.size) fail("send");
        return;
    }
    struct iovec vector = {buffer, header.size};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    *rights = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
    if (sendmsg(socket, &message, MSG_NOSIGNAL) != (ssize_t)header.size) fail("sendmsg");
}

/* One whole message: a server sends none before the last is answered. */
static void receive(int socket, char *buffer, size_t size) {
    uint32_t expected = sizeof(struct header), got = 0;
    while (got < expected) {
        /* QEMU waits in poll too; a blocking recv would also be woken by the server's reading, and cost two switches more. */
        struct pollfd ready = {.fd = socket, .events = POLLIN};
        if (poll(&ready, 1, -1) != 1) fail("poll");
        ssize_t some = recv(socket, buffer + got, size - got, 0);
        if (some <= 0) fail("recv");
        got += (uint32_t)some;
        if (got >= sizeof(struct header)) memcpy(&expected, buffer + 4, 4);
    }
    check(got == expected, "two messages at once");
}

static void answer_dma(int socket, const char *request) {
    static struct {
        struct dma_access access;
        char data[DMA_BYTES];
    } data;
    struct header header;
    memcpy(&header, request, sizeof header);
    memcpy(&data.access, request + sizeof header, sizeof data.access);
    check(data.access.count == DMA_BYTES, "DMA of another length");
    deliver(socket, header.command, FLAG_REPLY, header.id, &data, sizeof data, -1);
}

/* The low word of the register, where it reads one. */
static uint32_t exchange_with(int socket, uint16_t command, const void *payload, size_t length, int descriptor) {
    static uint16_t id;
    char buffer[4096];
    struct header header;
    uint32_t value;
    deliver(socket, command, 0, ++id, payload, length, descriptor);
    receive(socket, buffer, sizeof buffer);
    memcpy(&header, buffer, sizeof header);
    if (header.error) {
        fprintf(stderr, "command %u answered with error %u\n", command, header.error);
        exit(1);
    }
    memcpy(&value, buffer + sizeof header + sizeof(struct region_access), sizeof value);
    return value;
}

static uint32_t exchange(int socket, uint16_t command, const void *payload, size_t length) {
    return exchange_with(socket, command, payload, length, -1);
}

static uint32_t read_register(int socket, uint64_t offset) {
    struct region_access request = {offset, BAR0, 4};
    return exchange(socket, COMMAND_REGION_READ, &request, sizeof request);
}

static void write_region(int socket, uint32_t region, uint64_t offset, uint64_t value, uint32_t bytes, int posted) {
    struct {
        struct region_access access;
        uint64_t value;
    } request = {{offset, region, bytes}, value};
    if (posted) deliver(socket, COMMAND_REGION_WRITE, FLAG_NO_REPLY, 0, &request, sizeof request.access + bytes, -1);
    else exchange(socket, COMMAND_REGION_WRITE, &request, sizeof request.access + bytes);
}

static uint64_t region_address(uint32_t region) { return 2ull * PAGE * region; }

static void map_region(struct endpoint *endpoint, uint32_t region) {
    /* Not as they lie in memory: the kernel would make one mapping of them. */
    uint64_t offset = endpoint->memory < 0 ? 0 : (uint64_t)(endpoint->regions - 1 - region) * PAGE;
    struct dma_map request = {sizeof request, 3, offset, region_address(region), PAGE};
    exchange_with(endpoint->socket, COMMAND_DMA_MAP, &request, sizeof request, endpoint->memory);
}

static void unmap_region(struct endpoint *endpoint, uint32_t region) {
    struct dma_unmap request = {sizeof request, 0, region_address(region), PAGE};
    exchange(endpoint->socket, COMMAND_DMA_UNMAP, &request, sizeof request);
}

static uint32_t next_region(struct endpoint *endpoint) {
    return endpoint->at = (endpoint->at + STRIDE) % endpoint->regions;
}

static void do_read(struct endpoint *endpoint) { read_register(endpoint->socket, IDENTIFICATION); }

static void do_write_read(struct endpoint *endpoint) {
    write_region(endpoint->socket, BAR0, LIVENESS, 0, 4, 1);
    read_register(endpoint->socket, LIVENESS);
}

static void message_dma(struct endpoint *endpoint, uint64_t then_read) {
    char request[4096];
    write_region(endpoint->socket, BAR0, DMA_SOURCE, region_address(next_region(endpoint)), 8, 1);
    write_region(endpoint->socket, BAR0, DMA_COMMAND, 1, 8, 1);
    receive(endpoint->socket, request, sizeof request);
    answer_dma(endpoint->socket, request);
    while (read_register(endpoint->socket, then_read) & 1 && then_read == DMA_COMMAND) {}
}

/* The read is answered when the DMA's answer has been taken, but the work that asked may still go on: that is not counted. */
static void do_message_dma(struct endpoint *endpoint) {
    message_dma(endpoint, IDENTIFICATION);
    stop();
    while (read_register(endpoint->socket, DMA_COMMAND) & 1) {}
}

static void do_message_dma_done(struct endpoint *endpoint) { message_dma(endpoint, DMA_COMMAND); }

static void do_mapped_dma(struct endpoint *endpoint) {
    write_region(endpoint->socket, BAR0, DMA_SOURCE, region_address(next_region(endpoint)), 8, 1);
    write_region(endpoint->socket, BAR0, DMA_COMMAND, 1, 8, 0);
    while (read_register(endpoint->socket, DMA_COMMAND) & 1) {}
}

static void do_posted(struct endpoint *endpoint) {
    for (int n = 0; n < POSTED_BATCH; n++) write_region(endpoint->socket, BAR0, LIVENESS, (uint64_t)n, 4, 1);
    read_register(endpoint->socket, LIVENESS);
}

static void do_map(struct endpoint *endpoint) {
    uint32_t region = next_region(endpoint);
    unmap_region(endpoint, region);
    map_region(endpoint, region);
}

static const struct mode {
    const char *name;
    void (*work)(struct endpoint *);
    int regions, descriptors, batch, per_sample;
} modes[] = {
    {"read", do_read, 0, 0, BATCH, 1},
    {"write-read", do_write_read, 0, 0, BATCH, 1},
    {"message-dma", do_message_dma, 1, 0, BATCH, 1},
    {"message-dma-done", do_message_dma_done, 1, 0, BATCH, 1},
    {"mapped-dma", do_mapped_dma, 1, 1, BATCH, 1},
    {"posted", do_posted, 0, 0, 1, POSTED_BATCH},
    {"message-map", do_map, 1, 0, BATCH, 1},
    {"mapped-map", do_map, 1, 1, BATCH, 1},
};

static void connect_to(struct endpoint *endpoint, const char *path, const struct mode *mode) {
    const char *star = strchr(path, '*');
    *endpoint = (struct endpoint){.regions = star ? (uint32_t)atoi(path) : 1, .memory = -1};
    if (star) path = star + 1;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int handle = endpoint->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(handle, (struct sockaddr *)&address, sizeof address)) fail(path);
    static const char version[] = "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}";
    exchange(handle, COMMAND_VERSION, version, sizeof version);
    if (!mode->regions) return;
    check(endpoint->regions > 0, "no regions");
    if (mode->descriptors) {
        endpoint->memory = memfd_create("regions", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (endpoint->memory < 0 || ftruncate(endpoint->memory, (off_t)endpoint->regions * PAGE)) fail("memfd");
    }
    for (uint32_t region = 0; region < endpoint->regions; region++) map_region(endpoint, region);
    /* Memory space and bus mastering on. */
    write_region(handle, CONFIGURATION, 4, 6, 2, 0);
    write_region(handle, BAR0, DMA_DESTINATION, EDU_BUFFER, 8, 0);
    write_region(handle, BAR0, DMA_COUNT, DMA_BYTES, 8, 0);
}

static void connect_all(struct server *server, char *paths, const struct mode *mode) {
    for (char *path = strtok(paths, ","); path; path = strtok(NULL, ",")) {
        int silent = *path == '-';
        check(server->count < MAX_SOCKETS, "too many sockets");
        connect_to(&server->endpoints[server->count], path + silent, mode);
        if (!silent) server->count++;
    }
    check(server->count > 0, "a server needs a socket to read from");
}

static void work_next(struct server *server, const struct mode *mode) {
    mode->work(&server->endpoints[server->next]);
    if (++server->next == server->count) server->next = 0;
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    const struct mode *mode = NULL;
    for (size_t n = 0; argc > 1 && n < sizeof modes / sizeof *modes; n++)
        if (!strcmp(argv[1], modes[n].name)) mode = &modes[n];
    if (!mode || argc < 4 || argc - 3 > MAX_SERVERS)
        return fputs("usage: message-client WHAT BATCHES [-][REGIONS*]SOCKET[,...]...\n", stderr), 2;
    int batches = atoi(argv[2]), servers = argc - 3, total = batches * mode->batch;
    static struct server all[MAX_SERVERS];
    for (int s = 0; s < servers; s++) {
        connect_all(&all[s], argv[3 + s], mode);
        all[s].samples = malloc((size_t)total * sizeof(uint32_t));
        for (int warm = 0; warm < WARM_UP * mode->batch; warm++) work_next(&all[s], mode);
    }
    for (int batch = 0; batch < batches; batch++)
        for (int s = 0; s < servers; s++)
            for (int n = 0; n < mode->batch; n++) {
                uint64_t start = now();
                stopped = 0;
                work_next(&all[s], mode);
                uint64_t end = stopped ? stopped : now();
                all[s].samples[batch * mode->batch + n] = (uint32_t)((end - start) / (uint64_t)mode->per_sample);
            }
    for (int s = 0; s < servers; s++) {
        qsort(all[s].samples, (size_t)total, sizeof(uint32_t), by_value);
        printf("%u %u\n", all[s].samples[total / 2], all[s].samples[(int)(total * 0.99)]);
    }
    return 0;
}
