// A libcuda.so.1 that computes nothing, for tests without a GPU: what it says is in the environment. Its
// GPU's memory is the host's.

#include <stdlib.h>
#include <string.h>

static int said(const char* name, int otherwise) {
  const char* value = getenv(name);
  return value ? atoi(value) : otherwise;
}

int cuInit(unsigned flags) { return said("FAKE_INIT", flags); }
int cuDriverGetVersion(int* version) { return *version = said("FAKE_VERSION", 13000), 0; }
int cuGetErrorName(int status, const char** name) {
  *name = status == 2     ? "CUDA_ERROR_OUT_OF_MEMORY"
          : status == 100 ? "CUDA_ERROR_NO_DEVICE"
                          : "CUDA_ERROR_UNKNOWN";
  return 0;
}
int cuGetErrorString(int status, const char** text) {
  return *text = status == 2 ? "out of memory" : "words", 0;
}
int cuDeviceGetCount(int* count) { return *count = said("FAKE_GPUS", 1), 0; }
int cuDeviceGet(int* gpu, int index) { return *gpu = index, 0; }
int cuDeviceGetName(char* name, int size, int gpu) { return strncpy(name, gpu ? "Second" : "Fake", size), 0; }
int cuDeviceGetAttribute(int* value, int which, int gpu) {
  *value = which == 75   ? said("FAKE_MAJOR", 9)
           : which == 76 ? said(gpu ? "FAKE_SECOND_MINOR" : "FAKE_MINOR", 0)
                         : 0;
  return 0;
}
int cuDeviceGetUuid_v2(unsigned char* bytes, int gpu) { return memset(bytes, gpu, 16), 0; }
int cuDevicePrimaryCtxRetain(void** context, int gpu) { return *context = context, gpu < 0; }
int cuMemGetInfo_v2(size_t* free, size_t* total) {
  *total = (size_t)80 << 30;
  *free = (size_t)said("FAKE_FREE_MIB", 80 << 10) << 20;
  return said("FAKE_LOST", 0);
}
int cuMemAlloc_v2(unsigned long long* at, size_t bytes) {
  *at = (unsigned long long)malloc(bytes);
  return said("FAKE_ALLOCATE", 0);
}
int cuMemFree_v2(unsigned long long at) { return free((void*)at), 0; }
int cuMemHostAlloc(void** at, size_t bytes, unsigned flags) {
  *at = calloc(1, bytes + flags);
  return said("FAKE_ALLOCATE", 0);
}
int cuMemFreeHost(void* at) { return free(at), 0; }
int cuMemcpy(unsigned long long to, unsigned long long from, size_t bytes) {
  return memcpy((void*)to, (void*)from, bytes), said("FAKE_LOST", 0);
}
int cuMemsetD8_v2(unsigned long long at, unsigned char value, size_t bytes) {
  return memset((void*)at, value, bytes), 0;
}
int cuCtxSynchronize(void) { return said("FAKE_LOST", 0); }

// Graphs, of which FAKE_GRAPHS find memory at once.
static int graphs;
int cuStreamBeginCapture_v2(void* stream, int mode) { return !stream || mode != 1; }
int cuStreamEndCapture(void* stream, void** graph) { return *graph = stream, 0; }
int cuGraphInstantiateWithFlags(void** run, void* graph, unsigned long long flags) {
  if (graphs == said("FAKE_GRAPHS", 0)) return 2;
  return ++graphs, *run = graph, (int)flags;
}
int cuGraphLaunch(void* run, void* stream) { return !run || !stream; }
int cuGraphExecDestroy(void* run) { return graphs -= run != NULL, 0; }
int cuGraphDestroy(void* graph) { return !graph; }

// What is asked for by name and not called here.
#define NOTHING(name) \
  int name(void) { return 999; }
int cuCtxSetCurrent(void* context) { return !context; }
NOTHING(cuMemcpyAsync)
NOTHING(cuCtxGetStreamPriorityRange)
NOTHING(cuStreamCreateWithPriority)
NOTHING(cuStreamDestroy_v2)
NOTHING(cuStreamQuery)
NOTHING(cuStreamWaitEvent)
NOTHING(cuEventCreate)
NOTHING(cuEventDestroy_v2)
NOTHING(cuEventRecord)
NOTHING(cuEventSynchronize)
NOTHING(cuEventRecordWithFlags)
NOTHING(cuEventElapsedTime)
NOTHING(cuMemGetAddressRange_v2)
NOTHING(cuIpcGetMemHandle)
NOTHING(cuIpcOpenMemHandle_v2)
NOTHING(cuIpcCloseMemHandle)
NOTHING(cuStreamBatchMemOp_v2)
