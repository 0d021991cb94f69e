// Lines as programs write them, and what the table makes of each.

#include "launch/diagnosis/pattern.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <string>
#include <string_view>

#include "launch/diagnosis/line_match.h"

namespace flagscale::launch {
namespace {

struct Example {
  const char* label;
  const char* line;
};

constexpr Example kExamples[] = {
    {"PeerLost", "flagscale: error: rank 1: out of memory"},
    {"PeerLost", "flagscale: error: rank 1 on 10.0.0.2:41733 is gone: its connection was closed"},
    {"PeerLost", "flagscale: error: the connection with 10.0.0.2 was closed"},
    {"Stopped", "flagscale: error: interrupted"},
    {"Stopped",
     "flagscale: error: stopped after iteration 3, which is saved; the same command goes on from it"},
    {"HostOutOfMemory", "python3 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=995"},
    {"HostOutOfMemory",
     "Memory cgroup out of memory: Killed process 71 (python3) total-vm:48264kB, anon-rss:44152kB"},
    {"HostOutOfMemory",
     "[Thu Nov 26 16:56:11 2026] Out of memory: Killed process 4242 (python) total-vm:912kB"},
    {"HostOutOfMemory",
     "slurmstepd: error: Detected 1 oom_kill event in StepId=71.0. Some of the step tasks have been OOM "
     "Killed."},
    {"HostOutOfMemory", "slurmstepd: error: Step 71.0 exceeded memory limit (9216 > 8192), being killed"},
    {"LockedMemory", "libibverbs: Warning: RLIMIT_MEMLOCK is 65536 bytes."},
    {"LockedMemory", "NCCL WARN Call to ibv_reg_mr failed with error Cannot allocate memory ibv_reg_mr"},
    {"HostOutOfMemory", "OSError: [Errno 12] Cannot allocate memory"},
    {"HostOutOfMemory", "terminate called after throwing an instance of 'std::bad_alloc'"},
    {"HostOutOfMemory", "MemoryError"},
    {"HostOutOfMemory",
     "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate "
     "memory: you tried to allocate 17179869184 bytes."},
    {"CacheTooSmall",
     "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
     "initializing the engine."},
    {"CacheTooSmall",
     "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be "
     "stored in KV cache (69424)."},
    {"CacheTooSmall",
     "ValueError: To serve at least one request with the models's max seq len (32768), (4.00 GiB KV cache is "
     "needed, which is larger than the available KV cache memory (2.46 GiB)."},
    {"CacheTooSmall", "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static."},
    {"OutOfMemoryError",
     "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
     "79.11 GiB"},
    {"OutOfMemoryError", "torch.cuda.OutOfMemoryError: HIP out of memory."},
    {"OutOfMemoryError", "RuntimeError: CUDA error: out of memory"},
    {"OutOfMemoryError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"},
    {"SharedMemory",
     "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory "
     "(shm)."},
    {"SharedMemory", "RuntimeError: unable to write to file </torch_71_3>"},
    {"SharedMemory",
     "NCCL WARN Error while creating shared memory segment /dev/shm/nccl-7ZzKXr (size 9637888)"},
    {"DataLoaderWorker", "RuntimeError: DataLoader worker (pid 71) is killed by signal: Killed."},
    {"DataLoaderWorker", "RuntimeError: DataLoader worker (pid(s) 71, 72) exited unexpectedly"},
    {"OutOfMemoryError", "ggml_backend: failed to allocate buffer: out of memory"},
    {"ProcessLimit", "RuntimeError: can't start new thread"},
    {"ProcessLimit",
     "OpenBLAS blas_thread_init: pthread_create failed for thread 63 of 64: Resource temporarily "
     "unavailable"},
    {"ProcessLimit", "bash: fork: retry: Resource temporarily unavailable"},
    {"OpenFiles", "OSError: [Errno 24] Too many open files: '/data/shard_1023.bin'"},
    {"GPULost",
     "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."},
    {"ECCError",
     "NVRM: Xid (PCI:0000:3b:00): 48, pid=71, An uncorrectable double bit error (DBE) has been detected"},
    {"ECCError", "RuntimeError: CUDA error: uncorrectable ECC error encountered"},
    {"XidError", "kernel: NVRM: Xid (PCI:0000:3b:00): 31, pid=71, name=python, Ch 00000008, MMU Fault"},
    {"FabricManager",
     "CUDA initialization: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet "
     "initialized"},
    {"DriverMismatch", "Failed to initialize NVML: Driver/library version mismatch"},
    {"DriverTooOld", "RuntimeError: The NVIDIA driver on your system is too old (found version 11040)."},
    {"DriverTooOld", "CUDA driver version is insufficient for CUDA runtime version"},
    {"NoGPU", "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory"},
    {"NoGPU", "RuntimeError: No CUDA GPUs are available"},
    {"NoGPU", "AssertionError: Torch not compiled with CUDA enabled"},
    {"NoGPU", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."},
    {"NoGPU", "RuntimeError: Failed to infer device type"},
    {"DeviceOrdinal", "RuntimeError: CUDA error: invalid device ordinal"},
    {"GPUBusy", "RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable"},
    {"DuplicateGPU",
     "init.cc:871 NCCL WARN Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 3b000"},
    {"DeviceAssert", "RuntimeError: CUDA error: device-side assert triggered"},
    {"IllegalAccess", "CUDA error: an illegal memory access was encountered"},
    {"IllegalAccess", "RuntimeError: CUDA error: unspecified launch failure"},
    {"GPUArchitecture", "RuntimeError: CUDA error: no kernel image is available for execution on the device"},
    {"CUDAFork",
     "RuntimeError: Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you "
     "must use the 'spawn' start method"},
    {"IllegalInstruction", "run.sh: line 3:    71 Illegal instruction     (core dumped) ./llama-server"},
    {"NCCLVersion", "NCCL WARN NET/Socket: mismatched NCCL version, remote 2.19.3 local 2.21.5"},
    {"NetworkInterface", "misc/socket.cc:483 NCCL WARN Bootstrap : no socket interface found"},
    {"NetworkInterface",
     "RuntimeError: [enforce fail at ../third_party/gloo/gloo/transport/tcp/device.cc:83] ifa != nullptr. "
     "Unable to find address for: eth9"},
    {"RDMAError",
     "NCCL WARN NET/IB: Got completion from peer 10.0.0.2<45310> with status=12 opcode=0 len=0 vendor err "
     "129 (Recv)"},
    {"PeerLost",
     "Exception raised from checkForNCCLErrorsInternal at ProcessGroupNCCL.cpp:2027 (most recent call "
     "first):"},
    {"CoreDump",
     "Exception raised from c10_cuda_check_implementation at CUDAException.cpp:43 (most recent call first):"},
    {"CoreDump", "run.sh: line 1: 71 Aborted                 (core dumped) python train.py"},
    {"SegmentationFault", "run.sh: line 3: 71 Segmentation fault      (core dumped) python train.py"},
    {"SegmentationFault", "rank 3 ended with exit code 139"},
    {"CoreDump", "exitcode  : -6 (pid: 71)"},
    {"CoreDump", "terminate called after throwing an instance of 'c10::DistBackendError'"},
    {"NCCLTimeout",
     "[E1126 16:56:11.018 ProcessGroupNCCL.cpp:632] [Rank 3] Watchdog caught collective operation timeout: "
     "WorkNCCL(SeqNum=1711, OpType=ALLREDUCE, Timeout(ms)=600000)"},
    {"NCCLTimeout",
     "Some NCCL operations have failed or timed out. Due to the asynchronous nature of CUDA kernels, "
     "subsequent GPU operations might run on corrupted/incomplete data."},
    {"NCCLAbort", "To avoid data inconsistency, we are taking the entire process down."},
    {"NCCLAbort", "ProcessGroupNCCL's watchdog got stuck: HeartbeatMonitor thread timed out"},
    {"GlooTimeout",
     "RuntimeError: [../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting "
     "1800000ms for recv operation to complete"},
    {"PeerLost",
     "RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer "
     "[127.0.0.1]:21837"},
    {"PeerLost",
     "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2006, remote process exited or "
     "there was a network error, NCCL version 2.21.5"},
    {"PeerLost", "ConnectionResetError: [Errno 104] Connection reset by peer"},
    {"NCCLSystemError",
     "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error."},
    {"NCCLUsage",
     "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.hpp:317, invalid usage, ncclInvalidUsage: "
     "This usually reflects invalid usage of NCCL library."},
    {"NCCLError",
     "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled cuda error "
     "(run with NCCL_DEBUG=INFO for details), NCCL version 2.21.5"},
    {"RendezvousConnectionError",
     "torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: The connection to the C10d store "
     "has failed. See inner exception for details."},
    {"RendezvousError", "torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError"},
    {"RendezvousError", "RENDEZVOUS connection failed"},
    {"StoreTimeout",
     "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 clients "
     "joined."},
    {"StoreTimeout",
     "torch.distributed.DistNetworkError: The client socket has timed out after 60000ms while trying to "
     "connect to (10.0.0.1, 29500)."},
    {"AddressInUse",
     "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network "
     "address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"},
    {"AddressInUse", "OSError: [Errno 98] Address already in use"},
    {"AddressNotLocal", "OSError: [Errno 99] Cannot assign requested address"},
    {"SSHKey", "train@worker-1: Permission denied (publickey,password)."},
    {"SSHHostKey", "Host key verification failed."},
    {"SSHConnection", "kex_exchange_identification: Connection closed by remote host"},
    {"NameResolution", "ssh: Could not resolve hostname worker-9: Name or service not known"},
    {"NameResolution", "socket.gaierror: [Errno -3] Temporary failure in name resolution"},
    {"TLSError",
     "requests.exceptions.SSLError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries "
     "exceeded (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate "
     "verify failed: unable to get local issuer certificate')))"},
    {"ProxyError",
     "requests.exceptions.ProxyError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries "
     "exceeded with url: /api/models (Caused by ProxyError('Cannot connect to proxy.', OSError('Tunnel "
     "connection failed: 407 Proxy Authentication Required')))"},
    {"NetworkUnreachable", "OSError: [Errno 113] No route to host"},
    {"HubGated",
     "huggingface_hub.errors.GatedRepoError: 401 Client Error. Access to model meta-llama/Llama-3.1-8B is "
     "restricted."},
    {"HubUnauthorized",
     "requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: "
     "https://huggingface.co/api/whoami-v2"},
    {"HubRateLimit",
     "requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for url: "
     "https://huggingface.co/api/models"},
    {"HubOffline",
     "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files in the disk cache and "
     "outgoing traffic has been disabled."},
    {"HubOffline",
     "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in "
     "the cached files."},
    {"HubNotFound",
     "OSError: Qwen/Qwen3-8 is not a local folder and is not a valid model identifier listed on "
     "'https://huggingface.co/models'"},
    {"DiskQuota", "OSError: [Errno 122] Disk quota exceeded: '/data/ckpt/iter_0000100'"},
    {"StorageError", "OSError: [Errno 28] No space left on device"},
    {"ReadOnly", "OSError: [Errno 30] Read-only file system: '/data/logs'"},
    {"StaleMount", "OSError: [Errno 116] Stale file handle"},
    {"DiskError", "OSError: [Errno 5] Input/output error"},
    {"FileLimit", "OSError: [Errno 27] File too large"},
    {"CorruptFile",
     "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer"},
    {"CorruptFile",
     "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory"},
    {"CorruptFile", "_pickle.UnpicklingError: invalid load key, 'v'."},
    {"CheckpointLayout",
     "AssertionError: tensor_model_parallel_size value from checkpoint (2) is not equal to the input "
     "argument value (1)."},
    {"CheckpointLayout",
     "megatron.core.dist_checkpointing.core.CheckpointingException: Global shape mismatch for loaded "
     "(torch.Size([64, 8])) and expected ((32, 8)) tensor"},
    {"CheckpointMismatch", "RuntimeError: Error(s) in loading state_dict for GPTModel:"},
    {"CheckpointMismatch",
     "\tsize mismatch for embedding.word_embeddings.weight: copying a param with shape torch.Size([151936, "
     "8]) from checkpoint, the shape in current model is torch.Size([100352, 8])."},
    {"TokenizerMismatch",
     "../aten/src/ATen/native/cuda/Indexing.cu:1292: indexSelectLargeIndex: block: [71,0,0] Assertion "
     "`srcIndex < srcSelectDimSize` failed."},
    {"TokenizerMismatch", "IndexError: index out of range in self"},
    {"TokenizerError",
     "OSError: Can't load tokenizer for 'models/aquila'. If you were trying to load it from "
     "'https://huggingface.co/models', make sure you don't have a local directory with the same name."},
    {"UnknownModel",
     "ValueError: The checkpoint you are trying to load has model type `qwen9` but Transformers does not "
     "recognize this architecture."},
    {"UnknownModel", "llama_model_load: error loading model: unknown model architecture: 'qwen9'"},
    {"RemoteCode",
     "ValueError: The repository for models/x contains custom code which must be executed to correctly load "
     "the model."},
    {"ShapeMismatch", "RuntimeError: mat1 and mat2 shapes cannot be multiplied (16x4096 and 5120x4096)"},
    {"NotDivisible",
     "AssertionError: world size (6) is not divisible by total_model_size (encoder_model_size=4 + "
     "decoder_model_size=0)"},
    {"DtypeError", "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0."},
    {"ContextLength",
     "ValueError: User-specified max_model_len (65536) is greater than the derived max_model_len "
     "(max_position_embeddings=32768)"},
    {"NaNLoss",
     " [2026-11-26 16:56:11] iteration      120/  200 | consumed samples: 960 | lm loss: NAN | loss scale: "
     "1.0 | grad norm: nan |"},
    {"NaNLoss", "{'loss': nan, 'grad_norm': nan, 'learning_rate': 2e-05, 'epoch': 0.1}"},
    {"NaNLoss",
     "AssertionError: Rank 3: found NaN in local grad norm in backward pass before data-parallel "
     "communication collective"},
    {"NaNLoss", "number of skipped iterations:   0 | number of nan iterations:   2 |"},
    {"LossScale", "FloatingPointError: Minimum loss scale reached (0.0001)."},
    {"SilentCorruption", "rerun: possible silent data corruption on rank 3"},
    {"LibraryVersion",
     "./flagscale: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by "
     "./flagscale)"},
    {"UndefinedSymbol",
     "ImportError: flash_attn_2_cuda.cpython-310-x86_64-linux-gnu.so: undefined symbol: "
     "_ZN3c104cuda9SetDeviceEi"},
    {"NumpyVersion",
     "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, "
     "got 88 from PyObject"},
    {"SharedLibrary",
     "llama-server: error while loading shared libraries: libggml.so: cannot open shared object file: No "
     "such file or directory"},
    {"ModuleNotFoundError", "ModuleNotFoundError: No module named 'transformer_engine'"},
    {"ImportError", "ImportError: cannot import name 'rope_type' from 'transformers'"},
    {"ExtensionBuild", "RuntimeError: Error building extension 'fused_adam'"},
    {"CommandNotFound", "bash: line 1: torchrun: command not found"},
    {"ExecFormat", "bash: ./llama-server: cannot execute binary file: Exec format error"},
    {"ArgumentError", "torchrun: error: unrecognized arguments: --no_shared_fs True"},
    {"ConfigError", "omegaconf.errors.InterpolationKeyError: Interpolation key 'data_path' not found"},
    {"MPISlots",
     "There are not enough slots available in the system to satisfy the 8 slots that were requested"},
    {"TimeLimit",
     "slurmstepd: error: *** JOB 71 ON worker-1 CANCELLED AT 2026-11-26T16:56:11 DUE TO TIME LIMIT ***"},
    {"Preempted",
     "slurmstepd: error: *** JOB 71 ON worker-1 CANCELLED AT 2026-11-26T16:56:11 DUE TO PREEMPTION ***"},
    {"ImagePull", "Warning  Failed  kubelet  Error: ImagePullBackOff"},
    {"Stopped",
     "W1126 16:56:11.000000 71 torch/distributed/elastic/multiprocessing/api.py:897] Sending process 72 "
     "closing signal SIGTERM"},
    {"Stopped", "slurmstepd: error: *** STEP 71.0 ON worker-1 CANCELLED AT 2026-11-26T16:56:11 ***"},
    {"ModelLoadError",
     "llama_model_load: error loading model: tensor 'blk.0' data is not within the file bounds"},
    {"AddressInUse",
     "RuntimeError: The server socket has failed to listen on any local network address. port: 29500"},
    {"ProcessKilled", "KeyboardInterrupt"},
    {"ProcessKilled",
     "torch.distributed.elastic.multiprocessing.api.SignalException: Process 71 got signal: 15, Received "
     "SIGTERM"},
    {"ProcessKilled",
     "torch.distributed.elastic.multiprocessing.api.SignalException: Process 71 got signal: 15"},
    {"SegmentationFault", "Fatal Python error: Segmentation fault"},
    {"ProcessKilled", "bash: line 1:    71 Killed                  python train.py"},
    {"ChildFailed",
     "E1126 16:56:11.000000 71 torch/distributed/elastic/multiprocessing/api.py:869] failed (exitcode: -9) "
     "local_rank: 1 (pid: 72) of binary: python"},
    {"BrokenPipe", "BrokenPipeError: [Errno 32] Broken pipe"},
    {"ChildFailed", "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: "},
    {"EngineDead",
     "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) "
     "for the root cause."},
    {"RayActorDied",
     "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task."},
    {"CUDNNError", "RuntimeError: cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"},
    {"CUBLASError", "RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"},
    {"CUDAError", "RuntimeError: CUDA error: unknown error"},
    {"GPUError", "GPU error"},
    {"NCCLError", "NCCL error in: ProcessGroupNCCL.cpp:1691"},
    {"FileNotFound", "FileNotFoundError: [Errno 2] No such file or directory: 'data/text_document.bin'"},
    {"FileNotFound", "cat: hostfile: No such file or directory"},
    {"PermissionError", "PermissionError: [Errno 13] Permission denied: '/data/checkpoints'"},
    {"PermissionError", "mkdir: cannot create directory '/data': Permission denied"},
    {"ConnectionError", "ConnectionRefusedError: [Errno 111] Connection refused"},
    {"ConnectionTimeout", "ssh: connect to host worker-1 port 22: Connection timed out"},
    {"TimeoutError", "TimeoutError: The read operation timed out"},
    {"HangError", "the job is hanging at iteration 12"},
    {"GPUError",
     "flagscale: error: [cuda] a kernel failed: CUDA_ERROR_UNKNOWN: unknown error; `dmesg | grep -i xid` "
     "says "
     "whether the GPU itself failed"},
    {"GPUError",
     "flagscale: error: the server stops: [rms_norm] the GPU did not take the kernel: unknown error"},
    {"GPUArchitecture",
     "flagscale: error: device cuda: GPU 0 has compute capability 8.0, this program has kernels for 90a: "
     "build "
     "it with ./dev cuda --architectures 80"},
    {"DriverTooOld",
     "flagscale: error: device cuda: the NVIDIA driver runs CUDA 12.4, this program needs 13.0: driver 580 "
     "or "
     "newer"},
    {"FlagscaleError", "flagscale: error: data_path 'book' has no book.idx"},
    {"AssertionFailed", "AssertionError: micro batch size must be positive"},
    {"CodeError", "Traceback (most recent call last):"},
    {"FatalError", "Fatal error: cannot continue"},
    {"Exception", "java.lang.RuntimeException: broken"},
    {"Completed", "INFO: the job has completed"},
};

TEST(Patterns, SayWhatRealLinesMean) {
  for (const Example& example : kExamples) {
    const Pattern* pattern = find_pattern(example.line);
    EXPECT_STREQ(pattern ? pattern->label : "nothing", example.label) << example.line;
  }
}

TEST(Patterns, HaveAnExampleForEveryRowThatNamesTrouble) {
  std::set<const Pattern*> shown;
  for (const Example& example : kExamples) shown.insert(find_pattern(example.line));
  for (const Pattern& pattern : patterns())
    EXPECT_TRUE(pattern.role > Role::kCompleted || shown.contains(&pattern)) << pattern.match;
}

TEST(Patterns, SayWhatToDo) {
  for (const Pattern& pattern : patterns()) {
    if (pattern.role > Role::kAftermath) continue;
    EXPECT_GT(std::strlen(pattern.hint), 15u) << pattern.label;
    EXPECT_STREQ(std::string(1, pattern.hint[std::strlen(pattern.hint) - 1]).c_str(), ".") << pattern.hint;
    EXPECT_NE(std::string_view(pattern.meaning), "") << pattern.label;
  }
}

// FlagScale's diagnostic.py: each of its substrings alone, with the label that it gives.
constexpr Example kFlagScale[] = {
    {"Completed", "completed"},
    {"OutOfMemoryError", "out of memory"},
    {"OutOfMemoryError", "outofmemoryerror"},
    {"OutOfMemoryError", "cuda out of memory"},
    {"RendezvousConnectionError", "rendezvousconnectionerror"},
    {"RendezvousError", "rendezvous failed"},
    {"ConnectionError", "connection refused"},
    {"ConnectionTimeout", "connection timeout"},
    {"ImportError", "importerror:"},
    {"ModuleNotFoundError", "modulenotfounderror:"},
    {"CodeError", "traceback (most recent call last)"},
    {"FatalError", "fatal error"},
    {"Exception", "exception"},
    {"ProcessKilled", "process killed"},
    {"ProcessKilled", "killed by signal"},
    {"ProcessKilled", "terminated by signal"},
    {"ProcessKilled", "keyboardinterrupt"},
    {"ProcessKilled", "sigint"},
    {"ProcessKilled", "sigterm"},
    {"SegmentationFault", "segmentation fault"},
    {"CoreDump", "core dumped"},
    {"CUDAError", "cuda error"},
    {"CUDNNError", "cudnn error"},
    {"GPUError", "gpu error"},
    {"FileNotFound", "no such file or directory"},
    {"PermissionError", "permission denied"},
    {"StorageError", "no space left on device"},
    {"TimeoutError", "operation timed out"},
    {"HangError", "hanging"},
};

TEST(Patterns, HoldAllOfFlagScalesInAnyCase) {
  for (const Example& example : kFlagScale) {
    std::string upper = example.line;
    for (char& c : upper) c = static_cast<char>(std::toupper(c));
    for (const std::string& line :
         {std::string(example.line), upper, "12:00:01 [ERROR] " + upper + " at step 3"}) {
      const Pattern* pattern = find_pattern(line);
      EXPECT_STREQ(pattern ? pattern->label : "nothing", example.label) << line;
    }
  }
}

TEST(Patterns, AreNotHitByLinesWithoutTrouble) {
  for (const char* line : {
           "no exception was raised",
           "finished with 0 exceptions",
           "0 CUDA errors, 0 cuDNN errors",
           "CUDA errors: 0",
           "ended without any fatal error",
           "ran without out of memory",
           "number of skipped iterations:   0 | number of nan iterations:   0 |",
           "  check_for_nan_in_loss_and_grad .................. True",
           "  exit_signal_handler ............................. False",
           "  exception_on_timeout ............................ 10",
           "Changing the learning rate",  // holds "hanging"
           "Registered a handler for SIGTERM",
           "Exception ignored in: <function Pool.__del__ at 0x7f0d>",
           "TORCH_NCCL_ASYNC_ERROR_HANDLING=1",
           "  File \"/usr/lib/python3/urllib3/exceptions.py\", line 71, in f",
           "frame #1: c10d::ProcessGroupNCCL::Exception() + 0x1c2 (0x7f0d in libtorch_cuda.so)",
           "process 71 ended with exit code 0",
           "loss: 2.31, information: banana",
           "the optimizer was not killed by signal",
           "avoid OutOfMemoryError by recomputation",
       })
    EXPECT_TRUE(!find_pattern(line) || find_pattern(line)->role > Role::kCompleted)
        << line << ": " << find_pattern(line)->label;
}

TEST(Patterns, KnowSignalsByTheirNumbers) {
  const auto role = [](const char* line) { return find_pattern(line)->role; };
  EXPECT_EQ(role("worker 3 was killed by signal 9"), Role::kCrash);
  EXPECT_EQ(role("worker 3 was terminated by signal 15"), Role::kConsequence);
  EXPECT_EQ(role("run.sh: line 1:    71 Terminated              python train.py"), Role::kConsequence);
}

TEST(Patterns, CountARankThatIsZeroAsARank) {
  for (const char* line :
       {"rank 0 CUDA error", "[0] CUDA error", "GPU 0 CUDA error", "[Rank 0] CUDA error: x"})
    EXPECT_NE(find_pattern(line), nullptr) << line;
}

TEST(Patterns, AreFoundBehindADeniedOne) {
  const Pattern* pattern = find_pattern("no exception until now; then java.lang.Exception: broken");
  ASSERT_NE(pattern, nullptr);
  EXPECT_STREQ(pattern->label, "Exception");
}

}  // namespace
}  // namespace flagscale::launch
