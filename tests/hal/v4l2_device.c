/* A camera as the kernel shows one, without a kernel module: preloaded into a process, it answers the V4L2 system calls on
   the file that CAMERA_PATH names. One format: YUYV, CAMERA_SIZE (WxH), CAMERA_HZ. The n-th frame has luma n modulo 200.
   After CAMERA_FRAMES frames: CAMERA_END=stall (no more come) or gone (unplugged: ENODEV, and the file disappears).
   Source: linux/videodev2.h and the kernel's documentation of streaming I/O with mapped buffers. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BUFFERS = 4 };
static int device = -1, queue[BUFFERS + 1], head, tail;
static unsigned width, height, hz, bytes, frames, limit;
static unsigned char *memory;
static double due;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void doze(double seconds) {
    struct timespec t = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    if (seconds > 0) nanosleep(&t, NULL);
}

static int refuse(int reason) {
    errno = reason;
    return -1;
}

static int is_camera(const char *path) {
    const char *ours = getenv("CAMERA_PATH");
    return ours && path && !strcmp(path, ours) && !access(path, F_OK);
}

static int open_camera(void) {
    if (device >= 0) return refuse(EBUSY);
    sscanf(getenv("CAMERA_SIZE"), "%ux%u", &width, &height);
    hz = atoi(getenv("CAMERA_HZ"));
    limit = atoi(getenv("CAMERA_FRAMES"));
    bytes = (2 * width * height + 4095) / 4096 * 4096;
    head = tail = 0;
    device = memfd_create("camera", 0);
    if (ftruncate(device, (off_t)BUFFERS * bytes)) return -1;
    memory = mmap(NULL, (size_t)BUFFERS * bytes, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
    return device;
}

static int put_format(struct v4l2_format *format) {
    struct v4l2_pix_format *pixels = &format->fmt.pix;
    memset(pixels, 0, sizeof *pixels);
    pixels->width = width, pixels->height = height, pixels->pixelformat = V4L2_PIX_FMT_YUYV;
    pixels->field = V4L2_FIELD_NONE, pixels->bytesperline = 2 * width, pixels->sizeimage = 2 * width * height;
    pixels->colorspace = V4L2_COLORSPACE_SRGB;
    return 0;
}

static int put_rate(struct v4l2_streamparm *parm) {
    memset(&parm->parm.capture, 0, sizeof parm->parm.capture);
    parm->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
    parm->parm.capture.timeperframe.numerator = 1, parm->parm.capture.timeperframe.denominator = hz;
    return 0;
}

static int put_buffer(struct v4l2_buffer *buffer, unsigned index) {
    if (index >= BUFFERS) return refuse(EINVAL);
    buffer->index = index, buffer->memory = V4L2_MEMORY_MMAP, buffer->length = bytes;
    buffer->m.offset = index * bytes, buffer->bytesused = 2 * width * height;
    buffer->flags = V4L2_BUF_FLAG_MAPPED | V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    return 0;
}

static int take_frame(struct v4l2_buffer *buffer) {
    if (frames >= limit) {
        if (!strcmp(getenv("CAMERA_END"), "gone")) {
            unlink(getenv("CAMERA_PATH"));
            return refuse(ENODEV);
        }
        doze(0.4); /* OpenCV asks ten times */
        return refuse(EAGAIN);
    }
    if (head == tail) return refuse(EAGAIN);
    doze(due - now());
    double stamp = now();
    due = (stamp > due + 1.0 / hz ? stamp : due) + 1.0 / hz;
    put_buffer(buffer, queue[tail]);
    tail = (tail + 1) % (BUFFERS + 1);
    unsigned char *pixels = memory + (size_t)buffer->index * bytes;
    for (unsigned i = 0; i < 2 * width * height; i += 2) pixels[i] = 16 + frames % 200, pixels[i + 1] = 128;
    buffer->timestamp.tv_sec = (time_t)stamp;
    buffer->timestamp.tv_usec = (long)((stamp - (time_t)stamp) * 1e6);
    buffer->sequence = frames++;
    doze(0.004); /* from the exposure to the hand-over */
    return 0;
}

static int answer(unsigned long request, void *data) {
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *can = data;
        memset(can, 0, sizeof *can);
        strcpy((char *)can->driver, "emulated"), strcpy((char *)can->card, "Emulated Camera");
        can->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        can->capabilities = can->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    }
    case VIDIOC_G_INPUT: *(int *)data = 0; return 0;
    case VIDIOC_S_INPUT: return *(int *)data ? refuse(EINVAL) : 0;
    case VIDIOC_G_FMT: case VIDIOC_S_FMT: case VIDIOC_TRY_FMT: return put_format(data);
    case VIDIOC_G_PARM: case VIDIOC_S_PARM: return put_rate(data);
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *wanted = data;
        if (wanted->count > BUFFERS) wanted->count = BUFFERS;
        return 0;
    }
    case VIDIOC_QUERYBUF: return put_buffer(data, ((struct v4l2_buffer *)data)->index);
    case VIDIOC_QBUF:
        queue[head] = ((struct v4l2_buffer *)data)->index, head = (head + 1) % (BUFFERS + 1);
        return 0;
    case VIDIOC_DQBUF: return take_frame(data);
    case VIDIOC_STREAMON: due = now(); return 0;
    case VIDIOC_STREAMOFF: head = tail = 0; return 0;
    default: return refuse(ENOTTY);
    }
}

static int real_open(const char *path, int flags, mode_t mode) { return syscall(SYS_openat, AT_FDCWD, path, flags, mode); }

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return is_camera(path) ? open_camera() : real_open(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return is_camera(path) ? open_camera() : real_open(path, flags | O_LARGEFILE, mode);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *data = va_arg(rest, void *);
    va_end(rest);
    return fd >= 0 && fd == device ? answer(request & 0xffffffff, data) : syscall(SYS_ioctl, fd, request, data);
}

int close(int fd) {
    if (fd >= 0 && fd == device) {
        munmap(memory, (size_t)BUFFERS * bytes);
        device = -1;
    }
    return syscall(SYS_close, fd);
}
