/* What pynvml asks of the driver's libnvidia-ml.so.1, answered for the machine that NVML_MACHINE names:
   h100 (one GPU), a100-mig (one with two slices, and one without MIG mode), lost (one that answers, one that fell off the
   bus), unloaded (no kernel module), hang (never answers). Source: NVML's API reference, nvml.h. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK, UNINITIALIZED = 1, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
typedef struct device { const char *name, *uuid; unsigned long long total, used; unsigned cores, major, minor, mig, sms; } device;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned gpu, memory; } rates;
typedef struct { unsigned sms, copy, decode, encode, jpeg, ofa, gpu_slices, compute_slices; unsigned long long megabytes; } attributes;

static device h100 = {"NVIDIA H100 80GB HBM3", "GPU-aaaa", 81559ull << 20, 1024ull << 20, 16896, 9, 0, 0, 0};
static device a100 = {"NVIDIA A100-SXM4-40GB", "GPU-bbbb", 40960ull << 20, 0, 6912, 8, 0, 1, 0};
static device plain = {"NVIDIA A100-SXM4-40GB", "GPU-cccc", 40960ull << 20, 0, 6912, 8, 0, 0, 0};
static device small = {"NVIDIA A100-SXM4-40GB MIG 1g.5gb", "MIG-1111", 4864ull << 20, 0, 0, 8, 0, 2, 14};
static device large = {"NVIDIA A100-SXM4-40GB MIG 3g.20gb", "MIG-3333", 19968ull << 20, 0, 0, 8, 0, 2, 42};
static device unknown = {"NVIDIA Future", "GPU-ffff", 1ull << 37, 0, 30000, 99, 0, 0, 0};

static int is(const char *machine) { return !strcmp(getenv("NVML_MACHINE"), machine); }

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (is("hang")) pause();
    return is("unloaded") ? DRIVER_NOT_LOADED : OK;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == GPU_IS_LOST ? "GPU is lost" : code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { return *count = is("a100-mig") || is("lost") || is("h100") ? 2 : 1, OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, device **out) {
    if (is("lost") && i == 0) return GPU_IS_LOST;
    *out = is("a100-mig") ? (i ? &plain : &a100) : is("h100") && i ? &unknown : &h100;
    return OK;
}
int nvmlDeviceGetName(device *d, char *out, unsigned size) { return strncpy(out, d->name, size), OK; }
int nvmlDeviceGetUUID(device *d, char *out, unsigned size) { return strncpy(out, d->uuid, size), OK; }
int nvmlDeviceGetMemoryInfo(device *d, memory *m) { return m->total = d->total, m->used = d->used, m->free = d->total - d->used, OK; }
int nvmlDeviceGetUtilizationRates(device *d, rates *r) {
    if (d->mig) return NOT_SUPPORTED;
    return r->gpu = 37, r->memory = 5, OK;
}
int nvmlDeviceGetNumGpuCores(device *d, unsigned *cores) { return *cores = d->cores, OK; }
int nvmlDeviceGetCudaComputeCapability(device *d, int *major, int *minor) { return *major = d->major, *minor = d->minor, OK; }
int nvmlDeviceGetMigMode(device *d, unsigned *now, unsigned *later) {
    if (d->major == 99) return NOT_SUPPORTED;
    return *now = *later = d->mig, OK;
}
int nvmlDeviceGetMaxMigDeviceCount(device *d, unsigned *count) { (void)d; return *count = 7, OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned i, device **out) {
    (void)d;
    if (i != 0 && i != 4) return NOT_FOUND;
    return *out = i ? &large : &small, OK;
}
int nvmlDeviceGetAttributes_v2(device *d, attributes *a) {
    if (d->mig != 2) return NOT_SUPPORTED;
    memset(a, 0, sizeof *a);
    return a->sms = d->sms, a->megabytes = d->total >> 20, OK;
}
