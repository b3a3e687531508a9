/*
 * The floor: a C server that does what any vfio-user server must (poll, recvmsg with room for descriptors, sendmsg, mmap of what it is
 * given) and nothing else. Reads are answered with zeros, writes are dropped, and a write of edu's DMA command register fetches
 * 64 bytes: from the region mapped last, or by a DMA_READ where that has no descriptor.
 */
#include "messages.h"

enum { DMA_BYTES = 64 };

static char input[1 << 17], output[1 << 16], fetched[DMA_BYTES];
static size_t head, tail;
static int client, descriptor = -1;
static char *mapped;
static uint64_t mapped_bytes, mapped_address;

/* Waits, and takes all that is there; false at the end of the stream. */
static int receive(void) {
    char control[CMSG_SPACE(16 * sizeof(int))];
    struct iovec vector = {input + tail, sizeof input - tail};
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct pollfd ready = {.fd = client, .events = POLLIN};
    if (poll(&ready, 1, -1) != 1) return 0;
    ssize_t count = recvmsg(client, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count <= 0) return 0;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    if (rights) memcpy(&descriptor, CMSG_DATA(rights), sizeof descriptor);
    tail += (size_t)count;
    return 1;
}

/* The next whole message, or NULL at the end of the stream; valid until the next call. */
static struct header *next(void) {
    for (;;) {
        struct header *message = (struct header *)(input + head);
        if (tail - head >= sizeof *message && tail - head >= message->size) {
            head += message->size;
            return message;
        }
        if (head == tail) head = tail = 0;
        else if (head > sizeof input / 2) {
            memmove(input, input + head, tail - head);
            tail -= head;
            head = 0;
        }
        if (!receive()) return NULL;
    }
}

static void deliver(const void *bytes, size_t size) {
    struct iovec vector = {(void *)bytes, size};
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1};
    if (sendmsg(client, &header, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size) fail("sendmsg");
}

static void reply(const struct header *message, const void *payload, size_t length) {
    struct header *answer = (struct header *)output;
    *answer = (struct header){message->id, message->command, (uint32_t)(sizeof *answer + length), FLAG_REPLY, 0};
    memmove(answer + 1, payload, length);
    deliver(output, answer->size);
}

static void map(const struct header *message) {
    const struct dma_map *request = (const struct dma_map *)(message + 1);
    mapped_address = request->address;
    if (descriptor >= 0) {
        mapped = mmap(NULL, request->size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, (off_t)request->offset);
        mapped_bytes = request->size;
        close(descriptor);
        descriptor = -1;
    }
    reply(message, NULL, 0);
}

static void unmap(const struct header *message) {
    if (mapped) munmap(mapped, mapped_bytes);
    mapped = NULL;
    reply(message, message + 1, sizeof(struct dma_unmap));
}

static int fetch(void) {
    static uint16_t id;
    if (mapped) {
        memcpy(fetched, mapped, DMA_BYTES);
        return 1;
    }
    struct {
        struct header header;
        struct dma_access access;
    } request = {{++id, COMMAND_DMA_READ, sizeof request, 0, 0}, {mapped_address, DMA_BYTES}};
    deliver(&request, sizeof request);
    struct header *answer = next();
    if (!answer) return 0;
    memcpy(fetched, (char *)answer + sizeof request, DMA_BYTES);
    return 1;
}

/* False at the end of the stream. */
static int write_register(const struct header *message) {
    const struct region_access access = *(const struct region_access *)(message + 1);
    if (!(message->flags & FLAG_NO_REPLY)) reply(message, &access, sizeof access);
    return access.region != BAR0 || access.offset != DMA_COMMAND || fetch();
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1)) return perror("listen"), 1;
    puts("ready");
    fflush(stdout);
    client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    for (struct header *message; (message = next());) {
        static struct {
            struct region_access access;
            char zeros[64];
        } data;
        switch (message->command) {
        case COMMAND_REGION_READ:
            data.access = *(struct region_access *)(message + 1);
            reply(message, &data, sizeof data.access + data.access.count);
            break;
        case COMMAND_REGION_WRITE:
            if (!write_register(message)) goto end;
            break;
        case COMMAND_DMA_MAP: map(message); break;
        case COMMAND_DMA_UNMAP: unmap(message); break;
        default: reply(message, message + 1, 4);
        }
    }
end:
    unlink(argv[1]);
    return 0;
}
