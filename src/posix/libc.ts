/**
 * The C library's functions, as koffi calls them, and the Linux constants that go with them (identical on x86-64 and
 * arm64). Addresses and sizes go in as numbers: a user-space address is below 2^53. Nothing here checks anything: an
 * address that is wrong is a crash, so the classes beside this file are the only callers.
 */
import koffi from 'koffi';

const library = koffi.load(null);

type Call<Arguments extends unknown[], Result = number> = (...args: Arguments) => Result;

function bind<Arguments extends unknown[], Result = number>(definition: string): Call<Arguments, Result> {
  return library.func(definition) as unknown as Call<Arguments, Result>;
}

export const socket = bind<[domain: number, type: number, protocol: number]>('int socket(int, int, int)');
export const socketpair = bind<[domain: number, type: number, protocol: number, out: Int32Array]>(
  'int socketpair(int, int, int, void *)',
);
export const bindSocket = bind<[fd: number, address: Uint8Array, length: number]>('int bind(int, void *, uint)');
export const connect = bind<[fd: number, address: Uint8Array, length: number]>('int connect(int, void *, uint)');
/** `value` and `length` are filled; `length` holds the size of `value` before. */
export const getsockopt = bind<[fd: number, level: number, option: number, value: Int32Array, length: Int32Array]>(
  'int getsockopt(int, int, int, void *, void *)',
);
export const getpeername = bind<[fd: number, address: Uint8Array, length: Int32Array]>(
  'int getpeername(int, void *, void *)',
);
export const listen = bind<[fd: number, backlog: number]>('int listen(int, int)');
export const accept4 = bind<[fd: number, address: number, length: number, flags: number]>(
  'int accept4(int, uintptr_t, uintptr_t, int)',
);
// These three return ssize_t; no buffer of ours is larger than an int says, and an int is cheaper to return.
export const recvmsg = bind<[fd: number, header: number, flags: number]>('int recvmsg(int, uintptr_t, int)');
export const sendmsg = bind<[fd: number, header: number, flags: number]>('int sendmsg(int, uintptr_t, int)');
export const sendBytes = bind<[fd: number, address: number, length: number, flags: number]>(
  'int send(int, uintptr_t, size_t, int)',
);
export const readBytes = bind<[fd: number, address: number, length: number]>('int64_t read(int, uintptr_t, size_t)');
/** `offset` -1 is the file's own position. */
export const preadv2 = bind<[fd: number, vector: number, count: number, offset: number, flags: number]>(
  'int preadv2(int, uintptr_t, int, int64_t, int)',
);
export const preadBytes = bind<[fd: number, address: number, length: number, position: number]>(
  'int64_t pread(int, uintptr_t, size_t, int64_t)',
);
export const pwriteBytes = bind<[fd: number, address: number, length: number, position: number]>(
  'int64_t pwrite(int, uintptr_t, size_t, int64_t)',
);
export const writeBytes = bind<[fd: number, address: number, length: number]>('int64_t write(int, uintptr_t, size_t)');
export const close = bind<[fd: number]>('int close(int)');
export const fchmod = bind<[fd: number, mode: number]>('int fchmod(int, uint)');
export const lseek = bind<[fd: number, offset: number, whence: number], number | bigint>(
  'int64_t lseek(int, int64_t, int)',
);
export const statx = bind<[fd: number, path: number, flags: number, mask: number, out: number]>(
  'int statx(int, uintptr_t, int, uint, uintptr_t)',
);
export const fcntl = bind<[fd: number, command: number, argument: number]>('int fcntl(int, int, int)');
export const flock = bind<[fd: number, operation: number]>('int flock(int, int)');
export const poll = bind<[array: number, count: number, timeout: number]>('int poll(uintptr_t, ulong, int)');
export const epollCreate = bind<[flags: number]>('int epoll_create1(int)');
export const epollCtl = bind<[epoll: number, operation: number, fd: number, event: number]>(
  'int epoll_ctl(int, int, int, uintptr_t)',
);
export const epollWait = bind<[epoll: number, events: number, count: number, timeout: number]>(
  'int epoll_wait(int, uintptr_t, int, int)',
);
export const eventfd = bind<[initial: number, flags: number]>('int eventfd(uint, int)');
export const memfdCreate = bind<[name: string, flags: number]>('int memfd_create(str, uint)');
export const madvise = bind<[address: number, length: number, advice: number]>('int madvise(uintptr_t, size_t, int)');
const mmapCall = bind<
  [address: number, length: number, protection: number, flags: number, fd: number, offset: number],
  number | bigint
>('uintptr_t mmap(uintptr_t, size_t, int, int, int, int64_t)');

/** mmap(2): the address, or -1 where it failed. */
export function mmap(
  address: number,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
): number {
  // MAP_FAILED, all ones, does not fit a number and so comes as a bigint.
  const result = mmapCall(address, length, protection, flags, fd, offset);
  return typeof result === 'number' ? result : -1;
}

/** The error number of the last call that failed on this thread; to be read before anything else is called. */
export function errno(): number {
  return koffi.errno();
}

/** A view over native memory; it lasts as long as the caller keeps the memory mapped. */
export function viewOf(address: number, length: number): ArrayBuffer {
  return koffi.view(BigInt(address), length);
}

export const AF_UNIX = 1;
export const SOCK_STREAM = 1;
export const SOCK_NONBLOCK = 0x800;
export const SOCK_CLOEXEC = 0x80000;
export const SOL_SOCKET = 1;
export const SO_TYPE = 3;
export const SO_ACCEPTCONN = 30;
export const SO_DOMAIN = 39;
export const SCM_RIGHTS = 1;
export const MSG_CTRUNC = 0x8;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;
export const RWF_NOWAIT = 8;
export const EPOLL_CLOEXEC = 0x80000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
export const EFD_NONBLOCK = 0x800;
export const EFD_CLOEXEC = 0x80000;
export const MFD_CLOEXEC = 1;
export const MFD_ALLOW_SEALING = 2;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_DUPFD_CLOEXEC = 1030;
export const F_ADD_SEALS = 1033;
export const F_GET_SEALS = 1034;
export const F_SEAL_SHRINK = 2;
export const F_SEAL_GROW = 4;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 0x1;
export const MAP_PRIVATE = 0x2;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
/** x86-64 alone; others take no notice. */
export const MAP_32BIT = 0x40;
export const MAP_NORESERVE = 0x4000;
export const MADV_DONTNEED = 4;
export const AT_EMPTY_PATH = 0x1000;
export const STATX_TYPE = 1;
export const STATX_SIZE = 0x200;
export const S_IFMT = 0xf000;
export const S_IFCHR = 0x2000;
export const S_IFBLK = 0x6000;
export const S_IFREG = 0x8000;
export const SEEK_CUR = 1;
export const O_APPEND = 0x400;
export const O_NONBLOCK = 0x800;

export const ENOENT = 2;
export const EINTR = 4;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EINVAL = 22;
export const ENOTSOCK = 88;
export const EOPNOTSUPP = 95;
export const EADDRINUSE = 98;
export const ECONNABORTED = 103;
export const ENOTCONN = 107;
export const ECONNREFUSED = 111;
