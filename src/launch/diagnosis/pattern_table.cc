// The first row that a line matches is what the line says. Rows of one label stand together, and general ones
// ("cuda error", "exception") at the end.

#include "launch/diagnosis/pattern.h"

namespace flagscale::launch {

namespace {

using enum Role;

constexpr Pattern kTable[] = {
    // -- numbers that are none: first, for they stand in lines of progress
    {"loss*: nan>|loss*: inf>|loss*: -inf>|loss*=nan>|loss*= nan>|loss is nan|loss is inf|loss: nan|found "
     "nan|"
     "nan in*loss|nan in*grad|nan or inf|inf or nan|non-finite|number of nan iterations|grad*norm*: nan>|"
     "infs/nans",
     "NaNLoss", "The loss or a gradient is no longer a number.",
     "Go back to a checkpoint before it; lower the learning rate or lengthen warm-up, clip_grad: 1.0, bf16 "
     "instead of "
     "fp16. If it comes on one host alone, suspect its GPU; check_for_nan_in_loss_and_grad names the rank.",
     kCause, true},
    {"loss scale already at minimum|minimum loss scale|loss scale*below", "LossScale",
     "Gradients overflow in fp16 at every scale.",
     "Use bf16, or lower the learning rate: NaN is near, if not there.", kCause, true},
    {"silent data corruption", "SilentCorruption", "A device computed wrong values.",
     "Run the step again on another host; take the one that was named out of the hostfile.", kCause, true},

    // -- lines that only look like trouble, and lines that say that all is well
    {"exception ignored in|exception ignored on|exceptions.py|exception_handler|exception handler|exception "
     "handling|error_handling|error_file|frame *+ 0x|frame *+0x|handler for "
     "sig|handler*sigterm|handler*sigint|"
     "sigterm handler|sigint handler|exit_signal_handler|register*sigterm|destroy_process_group() was not "
     "called|"
     "exit code 0>|exit code: 0>|exitcode: 0>",
     "", "", "", kNothing},
    {"elapsed time per iteration|consumed samples|it/s>|s/it>|b/s>*eta|<step #/|<step: #|' 200 ok|\" 200 ok|"
     "generation throughput|gen throughput",
     "Progress", "", "", kProgress},

    {"starting elastic_operator with launch configs|will restart worker group|using world size: #|"
     "vllm api server version|server_args=serverargs",
     "Start", "", "", kStart},

    // -- this program's ranks: the first error is everybody's, so that most ranks tell another one's
    {"flagscale: error: rank #: |flagscale: error: *rank # on *is gone:|flagscale: error: *rank # on "
     "*nothing was heard|"
     "flagscale: error: *rank # was not heard of|flagscale: error: *rank*did not come to|"
     "flagscale: error: the connection with * was closed|flagscale: error: nobody answers at *:#|"
     "flagscale: error: * says nothing",
     "PeerLost", "A rank tells what another one said, or lost its connection with it.",
     "Look at the rank that it names.", kConsequence},

    {"flagscale: error: interrupted|flagscale: error: stopped after iteration #", "Stopped",
     "The rank was told to stop: by its launcher as another one ended, or by someone.",
     "Look at the rank that ended first; if none did, nothing is broken.", kConsequence},

    // -- memory
    {"invoked oom-killer|out of memory: kill|memory cgroup out of memory|oom-kill|oom_kill|oomkilled|"
     "killed by the oom|exceeded memory limit|exceeded job memory limit|exceeded step memory limit|"
     "ray.exceptions.outofmemory|ray*killed*low on memory",
     "HostOutOfMemory", "The host's memory, or the cgroup's limit, ran out and the kernel killed a process.",
     "Give the job more memory (Kubernetes limits.memory, Slurm --mem, docker -m), or use less: fewer data "
     "workers (num_workers), a smaller batch, optimizer states not offloaded to the host.",
     kCause},
    {"cannot allocate memory*ibv|ibv_*cannot allocate memory|rlimit_memlock|memlock limit|max locked memory",
     "LockedMemory", "RDMA could not pin memory: the limit on locked memory is too low.",
     "Set `ulimit -l unlimited`: docker --ulimit memlock=-1, or LimitMEMLOCK=infinity for sshd, slurmd and "
     "containerd, whose limits jobs inherit.",
     kCause},
    {"cannot allocate memory|std::bad_alloc|<memoryerror|defaultcpuallocator*can't allocate|"
     "defaultcpuallocator: not enough memory|unable to allocate*array with shape",
     "HostOutOfMemory", "A process asked the host for memory that is not there.",
     "Compare `free -h` and the cgroup's limit with what the job takes; lower num_workers and the batch, or "
     "load "
     "the checkpoint without a second copy (mmap, low_cpu_mem_usage).",
     kCause},
    {"no available memory for the cache blocks|can be stored in kv cache|available kv cache memory|"
     "increase*mem-fraction-static|kv cache*not enough",
     "CacheTooSmall", "The weights leave too little memory for the cache of keys and values.",
     "Raise gpu_memory_utilization (SGLang: mem_fraction_static), lower max_model_len or max_num_seqs, use a "
     "smaller KV type (kv_cache_dtype fp8), or spread over more GPUs (tensor_parallel_size).",
     kCause},
    {"cuda out of memory|hip out of memory|npu out of memory|musa out of memory|outofmemoryerror|"
     "cuda error: out of "
     "memory|cuda_error_out_of_memory|cudaerrormemoryallocation|cublas_status_alloc_failed|"
     "cuda failure*out of memory|ran out of gpu memory",
     "OutOfMemoryError", "The GPU's memory ran out.",
     "Lower micro_batch_size or seq_length; recompute activations (recompute_granularity: full); shard more "
     "(tensor or pipeline parallel, use_distributed_optimizer). With much «reserved but unallocated»: "
     "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True. See with nvidia-smi that no other job holds the GPU.",
     kCause},
    {"bus error|<sigbus|insufficient shared memory|unable to open shared memory|could not resize shared "
     "memory|"
     "unable to write to file *torch_|/dev/shm*no space left|no space left*/dev/shm|"
     "error while creating shared memory segment",
     "SharedMemory", "Shared memory (/dev/shm) is full, or a mapped file became shorter.",
     "Look at `df -h /dev/shm` and give it more: docker --shm-size=16g (or --ipc=host), in Kubernetes an "
     "emptyDir "
     "with medium: Memory at /dev/shm; or fewer data workers.",
     kCause},
    {"dataloader worker*killed by signal|dataloader worker*exited unexpectedly", "DataLoaderWorker",
     "A process that loads data died.",
     "Mostly it is memory: look in `dmesg -T` for the OOM killer and at `df -h /dev/shm`; num_workers=0 "
     "shows the "
     "worker's own error.",
     kCause},
    {"out of memory", "OutOfMemoryError", "Memory ran out.",
     "See which: nvidia-smi for the GPU, `dmesg -T | grep -i oom` for the host. Then a smaller batch or "
     "sequence, "
     "recomputed activations, or more parallelism.",
     kCause},
    {"can't start new thread|pthread_create*failed|fork: retry|fork: resource temporarily unavailable|"
     "cannot fork|blockingioerror*resource temporarily unavailable|openblas*pthread_create",
     "ProcessLimit", "The host does not let the job have more processes or threads.",
     "Raise `ulimit -u` and the cgroup's pids limit (docker --pids-limit, Kubernetes podPidsLimit), or set "
     "OMP_NUM_THREADS=1 and fewer data workers.",
     kCause},
    {"too many open files|<emfile>|<enfile>", "OpenFiles", "The limit on open files is reached.",
     "Raise `ulimit -n` (docker --ulimit nofile=1048576), or "
     "torch.multiprocessing.set_sharing_strategy('file_system').",
     kCause},

    // -- GPUs and their driver
    {"nvrm: xid*: 79,|xid 79>|fallen off the bus|gpu is lost", "GPULost",
     "A GPU fell off the bus: hardware, power or heat.",
     "Take the host out of the hostfile, power-cycle it, and have the GPU, its seat and its power checked.",
     kCause, true},
    {"nvrm: xid*: 48,|nvrm: xid*: 63,|nvrm: xid*: 64,|nvrm: xid*: 94,|nvrm: xid*: 95,|xid 48>|xid 94>|xid "
     "95>|"
     "uncorrectable ecc|double bit ecc|double-bit ecc|ecc_uncorrectable|row remap*fail",
     "ECCError", "The GPU's memory is defective: an error that ECC could not correct.",
     "Reset the GPU (nvidia-smi -r) or reboot the host; look at `nvidia-smi -q -d ECC,ROW_REMAPPER`, and "
     "replace "
     "the GPU when it comes again.",
     kCause, true},
    {"nvrm: xid|<xid (pci", "XidError", "The NVIDIA driver reports a fault of a GPU (Xid).",
     "Look the number up in NVIDIA's list of Xid errors: 13, 31, 43 and 45 are mostly the program's faults, "
     "74 is "
     "NVLink, 119 and 120 the GPU's own processor (reset it). Run the job once without that host.",
     kCause, true},
    {"fabric manager|<nvswitch*error|error 802>|system not yet initialized", "FabricManager",
     "The NVSwitch fabric is not ready.",
     "Start nvidia-fabricmanager in the driver's very version: `systemctl status nvidia-fabricmanager`.",
     kCause},
    {"driver/library version mismatch", "DriverMismatch",
     "The NVIDIA driver was updated while its old kernel module is loaded.",
     "Reboot the host, or unload and load the nvidia modules.", kCause},
    {"driver version is insufficient|nvidia driver runs cuda *, this program needs|nvidia driver on your "
     "system is too old|driver*is too old|"
     "unsupported display driver|compat_not_supported|forward compatibility was attempted|"
     "unsupported toolchain|ptx was compiled with an unsupported",
     "DriverTooOld", "The NVIDIA driver is older than the CUDA libraries of this job need.",
     "Update the host's driver, or take an image or wheel for an older CUDA; `nvidia-smi` shows the newest "
     "that "
     "the driver runs.",
     kCause},
    {"libcuda.so*cannot open|libcuda.so*not found|could not*libcuda.so|found no nvidia driver|"
     "no cuda gpus are available|no cuda-capable device|not compiled with cuda enabled|"
     "couldn't communicate with the nvidia driver|cuda_error_no_device|nvml*not found|"
     "failed to infer device type|libnvidia-ml.so*cannot open",
     "NoGPU", "The job finds no GPU or no NVIDIA driver.",
     "Run `nvidia-smi` on that host, and in the container: it needs `--gpus all` and the NVIDIA container "
     "toolkit. "
     "CUDA_VISIBLE_DEVICES must not be empty.",
     kCause},
    {"invalid device ordinal|nproc_per_node*greater than|more processes than*gpus|device index*out of range",
     "DeviceOrdinal", "A rank asks for a GPU that this host does not have.",
     "Lower nproc_per_node (and slots= in the hostfile) to the number of GPUs, or correct "
     "CUDA_VISIBLE_DEVICES.",
     kCause},
    {"devices are busy or unavailable|devices_unavailable|busy or unavailable", "GPUBusy",
     "Another process holds the GPU.",
     "Find it with `nvidia-smi` or `fuser -v /dev/nvidia*`; compute mode Exclusive_Process allows one only.",
     kCause},
    {"duplicate gpu detected", "DuplicateGPU", "Two ranks use the same GPU.",
     "Each rank must set its device by LOCAL_RANK; nproc_per_node must not exceed the GPUs; check "
     "CUDA_VISIBLE_DEVICES of each rank.",
     kCause},
    {"device-side assert", "DeviceAssert", "A kernel met an index that is out of range.",
     "Mostly a token or a label beyond the vocabulary: compare the tokenizer's size with vocab_size. "
     "CUDA_LAUNCH_BLOCKING=1 names the operation.",
     kCause},
    {"illegal memory access|misaligned address|unspecified launch failure|cuda*illegal instruction was "
     "encountered",
     "IllegalAccess", "A kernel read or wrote memory that is not its own.",
     "CUDA_LAUNCH_BLOCKING=1 names the kernel, compute-sanitizer the line. If it comes on one host alone, "
     "suspect "
     "its GPU (dmesg: Xid).",
     kCause},
    {"no kernel image is available|not compatible with the current pytorch|no kernel image|"
     "this program has kernels for",
     "GPUArchitecture", "A library has no kernels for this GPU's generation.",
     "Install builds for its compute capability, or compile with TORCH_CUDA_ARCH_LIST set to it (this "
     "program: "
     "./dev cuda --architectures).",
     kCause},
    {"re-initialize cuda in forked subprocess", "CUDAFork", "A process was forked after it used CUDA.",
     "Start processes with spawn: VLLM_WORKER_MULTIPROC_METHOD=spawn, or "
     "multiprocessing.set_start_method('spawn').",
     kCause},
    {"<sigill>|illegal instruction", "IllegalInstruction",
     "The program was compiled for a newer processor than this one.",
     "Take a build for this processor (`lscpu` lists its instructions), or compile without -march=native.",
     kCause},

    // -- ranks that talk to each other. What is seen of another's end is a consequence.
    {"different nccl versions|mismatched nccl version|nccl version mismatch", "NCCLVersion",
     "The ranks use different versions of NCCL.",
     "Install the same environment on every host; LD_LIBRARY_PATH may name another libnccl.", kCause},
    {"no socket interface found|unable to find address for|unable to find interface|"
     "makedeviceforinterface*unsupported|makedeviceforhostname",
     "NetworkInterface", "The network interface that the ranks should use is not there.",
     "Set NCCL_SOCKET_IFNAME (and GLOO_SOCKET_IFNAME) to what `ip addr` shows on every host.", kCause},
    {"got completion*status=|transport retry counter exceeded|ib_uverbs|failed to modify qp|ibv_*failed|"
     "ncclibtest*error|call to ibv_|net/ib*wc error",
     "RDMAError", "InfiniBand or RoCE failed between two hosts.",
     "See `ibstat` and the switch on both hosts; NCCL_IB_HCA and NCCL_IB_GID_INDEX must suit them. "
     "NCCL_IB_DISABLE=1 shows whether it is the network.",
     kCause},
    {"exception raised from*nccl|exception raised from*processgroup|exception raised from*gloo|"
     "exception raised from checktimeout|exception raised from *tcpstore",
     "PeerLost", "A rank lost its connection with another one.",
     "Look at the rank that ended first: this one only saw it.", kConsequence},
    {"segmentation fault*core dumped", "SegmentationFault",
     "The process reached for memory that is not there.",
     "PYTHONFAULTHANDLER=1 shows where in Python, `coredumpctl gdb` where in C++. Mostly libraries of "
     "different "
     "builds: compare their versions with a host where it runs.",
     kCrash},
    {"exception raised from |terminate called|what(): *rank|fatal python error: aborted|<sigabrt|core dumped|"
     "signal 6>|exit code 134|exit code: 134|exit status 134|exitcode*: -6>",
     "CoreDump", "The process was aborted.", "The lines before it say why.", kAftermath},
    {"collective operation timeout|nccl operations have failed or timed out|nccl watchdog|ncclcommwatchdog|"
     "hccl*timeout|watchdog caught|monitoredbarrier|timed out in monitored",
     "NCCLTimeout", "A collective operation did not end: some rank did not join it.",
     "Look for the rank that is missing: it died, hangs, or is in another operation (different data or "
     "branches). "
     "TORCH_NCCL_TRACE_BUFFER_SIZE=2000 with TORCH_NCCL_DUMP_ON_TIMEOUT=1 names it; if it only needs longer, "
     "raise "
     "distributed_timeout_minutes.",
     kConsequence},
    {"heartbeatmonitor|heartbeat monitor|taking the entire process down|watchdog thread terminated",
     "NCCLAbort", "NCCL's watchdog ended the process.",
     "It follows a timeout or an error above: look at the rank that began it.", kConsequence},
    {"gloo*timed out|gloo*timeout|timed out waiting*for recv operation|timed out waiting*for send operation|"
     "gloo*wait timeout",
     "GlooTimeout", "A collective operation on the CPU did not end: some rank did not join it.",
     "Look for the rank that is missing; if it only needs longer, raise the timeout of init_process_group.",
     kConsequence},
    {"ncclremoteerror|remote process exited|communicator was aborted|connection reset by peer|<econnreset>|"
     "connection closed by peer|connection closed by remote peer|socket closed|peer closed connection|"
     "mpi_abort was invoked|ncclinternalerror",
     "PeerLost", "A rank lost its connection with another one.",
     "Look at the rank that ended first: this one only saw it. Where all live, the network between the hosts "
     "fails.",
     kConsequence},
    {"ncclsystemerror|unhandled system error", "NCCLSystemError", "A system call failed within NCCL.",
     "NCCL_DEBUG=INFO names the call: mostly /dev/shm is too small, or NCCL_SOCKET_IFNAME names a wrong "
     "interface.",
     kCause},
    {"ncclinvalidusage|ncclinvalidargument", "NCCLUsage", "NCCL was called wrongly.",
     "NCCL_DEBUG=WARN says how: mostly two ranks on one GPU, or ranks that call different operations.",
     kCause},
    {"unhandled cuda error|ncclunhandledcudaerror", "NCCLError", "CUDA failed within NCCL.",
     "NCCL_DEBUG=INFO names the call; an error of CUDA on this or another rank may stand above.", kCrash},
    {"rendezvousconnectionerror", "RendezvousConnectionError",
     "The ranks' meeting point (rdzv_endpoint) cannot be reached.",
     "The first host must be up and its port open to all: try `nc -zv HOST PORT` from each; check "
     "master_addr and "
     "master_port.",
     kConsequence},
    {"rendezvous*time*out|rendezvoustimeout|rdzvtimeout|rendezvous*closed|rendezvous*fail|rendezvous*error|"
     "error*rendezvous|rendezvousgracefulexit",
     "RendezvousError", "The nodes did not meet: one is missing, late, or was told another number of nodes.",
     "Each host must start with the same nnodes, rdzv_id and rdzv_endpoint. Look at the host whose log is "
     "shortest.",
     kConsequence},
    {"address already in use|<eaddrinuse>|failed to bind*in use|port*already in use|port*is already "
     "allocated|server socket has failed to listen",
     "AddressInUse", "Another process listens on that port.",
     "Find it with `ss -ltnp`, perhaps an earlier run: `flagscale stop`. Or choose another master_port or "
     "port.",
     kCause},
    {"tcpstore*timeout|tcpstore*timed out|diststoreerror|distnetworkerror|client socket has timed out|"
     "waiting for clients|waitforworkers*timed out|wait timeout after*keys",
     "StoreTimeout", "Ranks waited for others that did not come.",
     "All nnodes × nproc_per_node ranks must start and reach master_addr:master_port; look for one that "
     "ended, and "
     "at firewalls.",
     kConsequence},

    // -- the network
    {"cannot assign requested address|<eaddrnotavail>", "AddressNotLocal",
     "The address to listen on is not this host's.",
     "master_addr (or host) must be an address that `ip addr` shows on the first host.", kCause},
    {"permission denied (publickey|too many authentication failures", "SSHKey",
     "ssh does not let this user in.",
     "Copy the key there (`ssh-copy-id HOST`); `ssh -o BatchMode=yes HOST true` must succeed without a "
     "question.",
     kCause},
    {"host key verification failed|remote host identification has changed", "SSHHostKey",
     "ssh does not know the host's key, or it changed.",
     "Accept it once by hand (`ssh HOST`), or remove the old one (`ssh-keygen -R HOST`) if the host was "
     "installed "
     "anew.",
     kCause},
    {"kex_exchange_identification|ssh*connection closed by*port", "SSHConnection",
     "The ssh server closed the connection.",
     "See MaxStartups in sshd_config, the host's load, and that ssh_port is sshd's.", kCause},
    {"name or service not known|failure in name resolution|could not resolve host|no address associated with|"
     "getaddrinfo failed|nodename nor servname|unknown host",
     "NameResolution", "A host's name is unknown here.",
     "Check its spelling (hostfile, master_addr, a URL), then /etc/hosts and DNS: `getent hosts NAME`; or "
     "give "
     "addresses.",
     kCause},
    {"certificate verify failed|certificate_verify_failed|self-signed certificate|self signed certificate|"
     "unable to get local issuer|<sslerror|ssl: wrong_version|wrong version number|tls handshake*fail",
     "TLSError", "A TLS connection was not trusted or not understood.",
     "Behind a proxy that inspects traffic, name its certificate (SSL_CERT_FILE, REQUESTS_CA_BUNDLE); check "
     "the "
     "clock, and https:// against http://.",
     kCause},
    {"<proxyerror|proxy authentication required|cannot connect to proxy|tunnel connection failed|"
     "unable to connect to proxy",
     "ProxyError", "The proxy refused or cannot be reached.",
     "Check https_proxy and its password; put hosts of the cluster and localhost into no_proxy.", kCause},
    {"no route to host|network is unreachable|<ehostunreach>|<enetunreach>|host is down",
     "NetworkUnreachable", "A host cannot be reached at all.",
     "Check that it is up, its address, routes and firewalls (`ping HOST`).", kCause},

    // -- models and data of the hub
    {"gatedrepo|gated repo|access to model*is restricted|awaiting a review|accept the*license*to access",
     "HubGated", "The model asks for its terms to be accepted.",
     "Accept them on its page on huggingface.co with the account whose token is in HF_TOKEN.", kCause},
    {"401 client error|invalid user token|invalid username or password|403 client error|403 forbidden|"
     "401 unauthorized",
     "HubUnauthorized", "The server does not accept the token.",
     "Set HF_TOKEN (`hf auth login`) to a valid one that may read this repository.", kCause},
    {"429 client error|too many requests|rate limit exceeded", "HubRateLimit", "The server asks to wait.",
     "Fetch the model once, to a shared HF_HOME, before the job starts, instead of from every rank.", kCause},
    {"localentrynotfound|offline mode is enabled|outgoing traffic has been disabled|"
     "couldn't connect to*huggingface|couldn't connect to*load the files",
     "HubOffline", "The model is not in the cache, and the hub cannot be reached.",
     "Fetch it where there is a network (`flagscale models fetch`, `hf download`) and give the folder, or "
     "set "
     "HF_HOME "
     "and, if needed, https_proxy or HF_ENDPOINT.",
     kCause},
    {"repositorynotfound|revisionnotfound|entrynotfound|404 client error|is not a valid model identifier|"
     "is not a local folder and is not|does not appear to have a file named",
     "HubNotFound", "There is no such model, revision or file on the hub.",
     "Check the spelling, OWNER/NAME; private repositories need HF_TOKEN. A local path must exist on every "
     "host.",
     kCause},

    // -- files and disks
    {"disk quota exceeded|<edquot>|quota exceeded", "DiskQuota", "This user's or project's quota is used up.",
     "See `quota -s` (or `lfs quota`), remove old checkpoints, or set exp_dir to another disk.", kCause},
    {"no space left on device|<enospc>|disk full|not enough free disk space|insufficient disk space",
     "StorageError", "The disk is full.",
     "See `df -h` and `df -i` for the checkpoints', logs' and /tmp's disks; keep fewer checkpoints, or move "
     "exp_dir "
     "and TMPDIR.",
     kCause},
    {"read-only file system|<erofs>", "ReadOnly", "The file system takes no writes.",
     "Set exp_dir to one that does; one that became read-only by itself has errors: see dmesg.", kCause},
    {"stale file handle|<estale>|transport endpoint is not connected", "StaleMount",
     "A network file system lost what was open.", "Mount it again on that host, and start the job again.",
     kCause},
    {"input/output error|errno 5]", "DiskError", "A disk or a network file system failed to read or write.",
     "See dmesg and the storage's state on that host; copy what can still be read.", kCause},
    {"file too large|<efbig>|<sigxfsz", "FileLimit", "A file reached the largest size allowed.",
     "See `ulimit -f` and the file system's own limit.", kCause},
    {"deserializing header|invalidheaderdeserialization|metadataincompletebuffer|headertoolarge|"
     "pytorchstreamreader failed|unpicklingerror|invalid load key|git-lfs.github.com/spec|"
     "checksum*mismatch|digest*mismatch|crc*mismatch|file is truncated|unexpected eof|corrupt checkpoint|"
     "is corrupt>",
     "CorruptFile", "A file is cut short or damaged.",
     "Fetch or copy it again and compare checksums; a small text file in its place is a git-lfs pointer "
     "(`git lfs pull`). An unfinished checkpoint: go on from the one before (`flagscale checkpoint verify`).",
     kCause},

    // -- checkpoints, shapes, tokenizers
    {"from checkpoint (*not equal to|checkpoint*different*parallel|saved with*world size|global shape "
     "mismatch|"
     "checkpointingexception|mismatch*in the checkpoint|checkpoint*mismatch|incompatible checkpoint|"
     "unable to load*different tp|resharding*not supported",
     "CheckpointLayout", "The checkpoint was saved in another layout than this run has.",
     "Give the parallel sizes that it was saved with, convert it, or save with ckpt_format: torch_dist, "
     "which "
     "reshards.",
     kCause},
    {"error(s) in loading state_dict|size mismatch for|missing key(s) in state_dict|unexpected key(s)|"
     "missing keys in checkpoint|no parameter named*in checkpoint|there is no module or parameter named",
     "CheckpointMismatch", "The checkpoint is of another model than the configuration describes.",
     "Compare num_layers, hidden_size, num_attention_heads, vocabulary and untie_embeddings with the "
     "checkpoint's: "
     "`flagscale checkpoint inspect`.",
     kCause},
    {"srcindex < srcselectdimsize|indexselectlargeindex|index out of range in self|vocab*size mismatch|"
     "vocab*does not match|tokenizer*larger than*vocab|token id*out of vocab|out of range*vocab",
     "TokenizerMismatch", "Tokens lie beyond the model's vocabulary: another tokenizer made the data.",
     "Prepare the data with this model's tokenizer; vocab_size and make_vocab_size_divisible_by must cover "
     "it.",
     kCause},
    {"can't load tokenizer|tokenizer class*does not exist|couldn't instantiate the backend tokenizer|"
     "instantiate*tokenizer*sentencepiece|chat template*not set|no chat template|tokenizer*not found",
     "TokenizerError", "The tokenizer cannot be read.",
     "The folder needs tokenizer.json (or vocab.json and merges.txt, or tokenizer.model) beside config.json; "
     "Python "
     "may lack sentencepiece or tiktoken.",
     kCause},
    {"does not recognize this architecture|model architectures*not supported|unknown model architecture|"
     "unrecognized model in|unknown architecture",
     "UnknownModel", "This engine does not know the model's architecture.",
     "Update the engine, or choose another one that knows it (config.json, `architectures`).", kCause},
    {"error loading model|unable to load model|failed to load model", "ModelLoadError",
     "The engine cannot load the model's file.",
     "The lines before it say why: the path must be on this host, whole (compare its size or checksum with "
     "the "
     "hub's) and of a format and version that this engine reads.",
     kCrash},
    {"trust_remote_code=true|trust_remote_code to true|execute the configuration file|contains custom code",
     "RemoteCode", "The model brings Python code of its own.",
     "Read that code; if you trust it, set trust_remote_code: true.", kCause},
    {"shapes cannot be multiplied|must match the size of tensor|shape mismatch|is invalid for input of size|"
     "must match the existing size|sizes of tensors must match",
     "ShapeMismatch", "Two tensors' shapes do not go together.",
     "Compare hidden_size, num_attention_heads, num_query_groups, ffn_hidden_size and parallel sizes with "
     "the "
     "model's; the line above names the layer.",
     kCause},
    {"is not divisible by|must be divisible by|must be a multiple of|should be divisible by", "NotDivisible",
     "Sizes do not divide evenly.",
     "World size must be a multiple of tensor × pipeline × context parallel, global_batch_size of "
     "micro_batch_size × "
     "data parallel, heads and vocabulary of tensor parallel.",
     kCause},
    {"expected scalar type|must have the same dtype|not implemented for 'half'|does not support bfloat16|"
     "bfloat16 is only supported|same dtype, but got",
     "DtypeError", "Types do not go together, or this device lacks one.",
     "GPUs before Ampere have no bf16: use fp16 (dtype: half) or fp32; give all inputs the parameters' type.",
     kCause},
    {"max_model_len*greater than the derived|maximum context length|longer than the maximum model length",
     "ContextLength", "The length asked for is more than the model has.",
     "Lower max_model_len or the prompt; for longer ones the model needs rope scaling.", kPossible},

    // -- programs, libraries and arguments
    {"glibc_*not found|glibcxx_*not found|version `cxxabi|version `glibc", "LibraryVersion",
     "The program was built for a newer C library than this host has.",
     "Run it in a container of a newer distribution, or take a build for this one (`ldd --version`).",
     kCause},
    {"undefined symbol", "UndefinedSymbol", "Two libraries come from different builds.",
     "Install a matching pair: an extension (flash-attn, transformer-engine, apex) must be built for this "
     "very "
     "PyTorch and CUDA.",
     kCause},
    {"numpy.dtype size changed|compiled using numpy 1|multiarray failed to import|binary incompatibility",
     "NumpyVersion", "A package was built for another NumPy.",
     "Install `numpy<2`, or newer builds of the package that the traceback names.", kCause},
    {"error while loading shared libraries|cannot open shared object file", "SharedLibrary",
     "A shared library is missing.",
     "Install what holds it, or set LD_LIBRARY_PATH to its folder, on every host; in a job it comes through "
     "experiment.envs.",
     kCause},
    {"modulenotfounderror|no module named", "ModuleNotFoundError",
     "A Python package is missing on this host.",
     "Install it in the environment that the job uses (`which python` there), or correct PYTHONPATH; "
     "experiment.cmds.before_start can activate one.",
     kCause},
    {"importerror", "ImportError", "A Python package could not be imported.",
     "The line names it: mostly two versions do not suit each other. Try the import alone on that host.",
     kCause},
    {"error building extension|ninja: build stopped|nvcc fatal|ptxas fatal|ninja is required",
     "ExtensionBuild", "A CUDA extension did not compile.",
     "nvcc must be there and of PyTorch's CUDA version (CUDA_HOME), with ninja and a compiler that it takes; "
     "remove "
     "~/.cache/torch_extensions.",
     kCause},
    {"command not found|exit code 127|exit status 127|exitcode: 127", "CommandNotFound",
     "A program is not there, or not in PATH.",
     "Install it on that host, or set PATH in experiment.envs or activate its environment in "
     "experiment.cmds.before_start.",
     kCause},
    {"exec format error|cannot execute binary file", "ExecFormat",
     "A program is for another kind of processor.", "Take the build for this one (`uname -m`).", kCause},
    {"unrecognized arguments|no such option|invalid choice:|following arguments are required|error: argument "
     "|"
     "unexpected keyword argument|unrecognised option|unrecognized option",
     "ArgumentError", "The program does not take one of its arguments.",
     "The line names it: check its spelling and the engine's version; `flagscale run … action=dryrun` shows "
     "the whole "
     "command.",
     kCause},
    {"configattributeerror|omegaconf.errors|missingmandatoryvalue|could not override|hydra.errors|"
     "interpolationkeyerror|primary config*not found|cannot find primary config",
     "ConfigError", "The configuration does not compose.",
     "`flagscale config validate --config-path DIR --config-name NAME` names the key and the file.", kCause},
    {"not enough slots available", "MPISlots", "Open MPI was given fewer slots than ranks.",
     "Set slots= in the hostfile to the ranks of a host.", kCause},

    // -- ends of processes
    {"due to time limit|time limit exceeded", "TimeLimit", "The scheduler's time limit ended the job.",
     "Ask for more time (Slurm --time), save more often (save_interval), and start again: it goes on from "
     "the last "
     "checkpoint.",
     kCause},
    {"due to preemption|due to node failure|node_fail>|pod*evicted|reason*<evicted>|node was low on resource",
     "Preempted", "The cluster took the host away.",
     "Start again: it goes on from the last checkpoint (max_restarts does so).", kCause},
    {"imagepullbackoff|errimagepull|pull access denied|manifest unknown", "ImagePull",
     "The container's image cannot be fetched.",
     "Check its name and tag, and the registry's secret "
     "(imagePullSecrets).",
     kCause},
    {"childfailederror|root cause (first observed|failed (exitcode", "ChildFailed",
     "torchrun reports a rank's end.",
     "Its table names the first rank and its exit code; that rank's own lines say why.", kAftermath},
    {"closing signal sigterm|closing signal sigint|sending sigterm|job step aborted|slurmstepd*cancelled|"
     "job*cancelled at",
     "Stopped", "The launcher stopped the rank because another one ended, or the job was cancelled.",
     "Look at the rank that ended first.", kConsequence},
    {"keyboardinterrupt|<sigint>|got signal: 2>|received signal 2>", "ProcessKilled",
     "Someone stopped the job (Ctrl-C, SIGINT).", "Nothing is broken: start again.", kConsequence},
    {"<sigterm>|got signal: 15>|got signal: 1>|received signal 15>|received death signal|killed by signal "
     "15>|"
     "terminated by signal 15>|line #:*terminated>",
     "ProcessKilled", "The process was told to stop (SIGTERM): by its launcher, a scheduler or someone.",
     "Look at the rank that ended first; if none did, at the scheduler's events.", kConsequence},
    {"segmentation fault|<sigsegv|signal 11>|segfault at|exit code 139|exit code: 139|exit status 139|"
     "exitcode*: -11>",
     "SegmentationFault", "The process reached for memory that is not there.",
     "PYTHONFAULTHANDLER=1 shows where in Python, `coredumpctl gdb` where in C++. Mostly libraries of "
     "different "
     "builds: compare their versions with a host where it runs.",
     kCrash},
    {"process killed|killed by signal|terminated by signal|<sigkill>|signal 9>|exit code 137|exit code: 137|"
     "exit status 137|exitcode: 137|exitcode*: -9|<killed>",
     "ProcessKilled", "The process was killed by a signal, most often SIGKILL (exit code 137).",
     "If nobody did it, the kernel's OOM killer did: `dmesg -T | grep -i -E 'oom|killed process'` on that "
     "host, and "
     "the cgroup's limit (memory.events). Then fewer data workers, a smaller batch or more memory.",
     kCrash},
    {"<epipe>|broken pipe|brokenpipeerror|<sigpipe>", "BrokenPipe",
     "What read this process's output is gone.",
     "Look at what ended before; do not pipe a job into `head`, and detach it (--detach) from the terminal.",
     kConsequence},
    {"enginedeaderror|engine core*failed|enginecore*fatal|engine process failed|engine*died", "EngineDead",
     "The engine's process ended under its server.", "Its own error stands above.", kAftermath},
    {"actordiederror|actor died|raytaskerror|node*marked dead|worker crashed", "RayActorDied",
     "Ray lost one of its processes.", "Look for the first error above, and in /tmp/ray/session_latest/logs.",
     kConsequence},

    // -- general, after all that is specific
    {"cudnn error|cudnn_status_|valid cudnn|cudnn*mismatch", "CUDNNError", "cuDNN failed.",
     "Out of memory is its most frequent cause: try a smaller batch. Else another libcudnn comes first in "
     "LD_LIBRARY_PATH.",
     kCause},
    {"cublas_status_|cublas error", "CUBLASError", "cuBLAS failed.",
     "Out of memory, or an index out of range before it: CUDA_LAUNCH_BLOCKING=1 names the operation.",
     kCause},
    {"cuda error|cuda runtime error|cudaerror|cuda failure|cuda driver error|hip error|acl error",
     "CUDAError", "A call of CUDA failed.",
     "CUDA_LAUNCH_BLOCKING=1 names the operation; dmesg says whether the GPU itself failed (Xid).", kCause},
    {"flagscale: error: *[cuda] |the gpu did not take the kernel", "GPUError",
     "A GPU failed under this program, or its driver did.",
     "`dmesg | grep -i xid` on that host says whether the GPU itself failed: then take the host out. A "
     "training "
     "goes on from its last checkpoint when it is started again; a server only has to be started.",
     kCause},
    {"gpu error", "GPUError", "A GPU failed.", "See nvidia-smi and dmesg (Xid) on that host.", kCause},
    {"nccl error|distbackenderror|nccl failure", "NCCLError", "NCCL failed.",
     "NCCL_DEBUG=INFO says in which call; an error of another rank may be earlier.", kConsequence},
    {"filenotfounderror", "FileNotFound", "A file that the job needs is not there.",
     "The line names it. Paths must hold on every host: without a shared file system copy it to each.",
     kCause},
    {"no such file or directory|<enoent>", "FileNotFound", "A file or folder is not there.",
     "The line names it. Paths must hold on every host: without a shared file system copy it to each.",
     kPossible},
    {"permissionerror", "PermissionError", "The job's user may not read or write a file.",
     "The line names it: see its owner with `ls -ld` and the job's with `id`, in the container too.", kCause},
    {"permission denied|<eacces>", "PermissionError", "A file may not be read, written or run.",
     "The line names it: see its owner with `ls -ld` and the job's with `id`, in the container too.",
     kPossible},
    {"connection refused|<econnrefused>", "ConnectionError", "Nothing listens at that address.",
     "What should listen has ended or not yet started, or the port is wrong: look at that host's log.",
     kConsequence},
    {"connection timeout|connection timed out|connecttimeout|<etimedout>|connect timeout",
     "ConnectionTimeout", "A host does not answer.",
     "It is down, or a firewall drops the port: `nc -zv HOST PORT`.", kConsequence},
    {"operation timed out|timeouterror|read timed out|timeout expired", "TimeoutError",
     "Something took too long.",
     "The line names it: find what it waited for, another rank, a disk or a server.", kConsequence},
    {"<hanging|hang detected|hangerror|made no progress for", "HangError", "The job does not get on.",
     "See where each rank stands: `py-spy dump --pid PID`; mostly one rank waits for a collective that "
     "another does "
     "not join.",
     kCrash},
    {"flagscale: error:", "FlagscaleError", "The program says what is wrong and what to do.",
     "Its message names the fix.", kCause},
    {"assertionerror|assertion*failed", "AssertionFailed", "A check in the program failed.",
     "The line names it: mostly sizes or options that do not go together.", kCrash},
    {"traceback (most recent call last)", "CodeError", "A Python program raised an exception.",
     "Its last line says what, the lines above where.", kCrash},
    {"fatal error|fatal python error", "FatalError", "A program gave up.", "The line says why.", kCrash},
    {"exception", "Exception", "A program reports an exception.", "The line says which.", kCrash},
    {"<completed>|training finished|training is done|training complete", "Completed",
     "The job says that it is done.", "", kCompleted},
};

}  // namespace

std::span<const Pattern> patterns() { return kTable; }

}  // namespace flagscale::launch
