#include "launch/launcher/kubernetes_manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "launch/launcher/device_profile.h"

namespace flagscale::launch {

namespace {

using ManifestJson = nlohmann::ordered_json;

constexpr int kMasterPort = 29500;
constexpr size_t kLongestName = 48;  // a pod's host name has more at its end, and 63 characters at most

// "$(NAME)" in a value would be filled in.
ManifestJson variable(const std::string& name, const std::string& value) {
  std::string text;
  for (size_t i = 0; i < value.size(); ++i)
    text += value.compare(i, 2, "$(") == 0 ? "$$" : value.substr(i, 1);
  return {{"name", name}, {"value", text}};
}

// What a pod is: one of a job's nodes, all of a service, or of one over several nodes the first, which
// answers for all, or another.
enum class Part { kNode, kServer, kLeader, kWorker };

class Manifest {
 public:
  Manifest(const BatchJob& job, const KubernetesOptions& options)
      : job_(job), options_(options), name_(kubernetes_name(job.name)) {}

  // Everything in the order in which it must be there.
  ManifestJson list() const {
    ManifestJson items = ManifestJson::array({config_map()});
    if (job_.task == "serve") {
      add_service(items);
    } else if (options_.kind == "JobSet") {
      items.push_back(job_set());
    } else {
      if (job_.nodes > 1) items.push_back(headless(name_));
      items.push_back(
          {{"apiVersion", "batch/v1"}, {"kind", "Job"}, {"metadata", metadata()}, {"spec", job_spec()}});
    }
    return {{"apiVersion", "v1"}, {"kind", "List"}, {"items", items}};
  }

 private:
  ManifestJson labels() const {
    return {{"app.kubernetes.io/name", "flagscale"}, {"app.kubernetes.io/instance", name_}};
  }
  ManifestJson labels(Part part) const {
    ManifestJson all = labels();
    if (part == Part::kLeader || part == Part::kWorker)
      all["app.kubernetes.io/component"] = part == Part::kLeader ? "leader" : "worker";
    return all;
  }
  ManifestJson metadata(const std::string& name) const {
    return {{"name", name}, {"namespace", options_.space}, {"labels", labels()}};
  }
  ManifestJson metadata() const { return metadata(name_); }
  bool is_set() const { return options_.kind == "LeaderWorkerSet"; }

  ManifestJson config_map() const {
    return {{"apiVersion", "v1"},
            {"kind", "ConfigMap"},
            {"metadata", metadata()},
            {"data", {{"job.yaml", job_.configuration}}}};
  }

  // Headless, for the pods' host names: they are known before the pods are ready, for they wait for one
  // another.
  ManifestJson headless(const std::string& name) const {
    return {{"apiVersion", "v1"},
            {"kind", "Service"},
            {"metadata", metadata(name)},
            {"spec",
             {{"selector", labels()},
              {"ports", ManifestJson::array({{{"name", "master"}, {"port", kMasterPort}}})},
              {"clusterIP", "None"},
              {"publishNotReadyAddresses", true}}}};
  }

  // For clients, to the pod that answers.
  ManifestJson http_service(Part part) const {
    return {{"apiVersion", "v1"},
            {"kind", "Service"},
            {"metadata", metadata()},
            {"spec",
             {{"selector", labels(part)},
              {"ports", ManifestJson::array({{{"name", "http"}, {"port", job_.port}}})}}}};
  }

  void add_service(ManifestJson& items) const {
    items.push_back(http_service(job_.nodes == 1 ? Part::kServer : Part::kLeader));
    if (job_.nodes == 1) return items.push_back(deployment());
    if (is_set()) return items.push_back(leader_worker_set());
    items.push_back(headless(nodes_name()));
    items.push_back(stateful_set(Part::kWorker));
    items.push_back(stateful_set(Part::kLeader));
  }

  std::string nodes_name() const { return name_ + "-nodes"; }

  // Where the first pod is found: a job's pods are NAME-INDEX, a set's NAME-nodes-0-INDEX.
  std::string master() const {
    if (job_.task == "serve") return fmt::format("{}-0.{}", name_, nodes_name());
    return fmt::format("{}{}-0.{}", name_, options_.kind == "JobSet" ? "-nodes-0" : "", name_);
  }

  ManifestJson environment() const {
    ManifestJson env = ManifestJson::array();
    for (const auto& [name, value] : job_.env) env.push_back(variable(name, value));
    if (job_.nodes == 1 || is_set()) return env;  // a set's controller gives its own variables
    const char* const index = job_.task == "serve"
                                  ? "metadata.labels['apps.kubernetes.io/pod-index']"
                                  : "metadata.annotations['batch.kubernetes.io/job-completion-index']";
    env.push_back({{"name", "FLAGSCALE_NODE_RANK"}, {"valueFrom", {{"fieldRef", {{"fieldPath", index}}}}}});
    env.push_back(variable("FLAGSCALE_NODES", std::to_string(job_.nodes)));
    env.push_back(variable("MASTER_ADDR", master()));
    env.push_back(variable("MASTER_PORT", std::to_string(kMasterPort)));
    return env;
  }

  ManifestJson resources() const {
    ManifestJson limits = ManifestJson::object();
    if (!options_.cpu.empty()) limits["cpu"] = options_.cpu;
    if (!options_.memory.empty()) limits["memory"] = options_.memory;
    if (job_.devices > 0 && !on_processors()) limits[device_resource()] = std::to_string(job_.devices);
    return limits.empty() ? ManifestJson::object() : ManifestJson{{"requests", limits}, {"limits", limits}};
  }

  bool on_processors() const {
    return job_.is_native && options_.device == "cpu" && options_.resource.empty();
  }

  std::string device_resource() const {
    if (!options_.resource.empty()) return options_.resource;
    const std::string resource = options_.device.empty() ? "" : device_profile(options_.device).resource;
    if (resource.empty())
      fail(ErrorKind::kConfig,
           "a node asks for {} devices{}, which Kubernetes has no name for: set "
           "experiment.runner.kubernetes.device (nvidia, … or, for the native engine, cpu), or .resource",
           job_.devices, options_.device.empty() ? " of no kind" : " of '" + options_.device + "'");
    return resource;
  }

  // The same configuration, as one node of it finds it: kubelet fills the variable in.
  std::vector<std::string> overrides() const {
    std::vector<std::string> words;
    if (!job_.engine.empty()) words = {"--engine", job_.engine};
    const auto runner = [&](const std::string& key) { words.push_back("++experiment.runner." + key); };
    runner(job_.nodes > 1 ? "type=cloud" : "type=ssh");
    runner("hostfile=null");
    if (job_.nodes > 1) {
      runner(fmt::format("nnodes={}", job_.nodes));
      runner(is_set() ? "node_rank=null" : "node_rank=$(FLAGSCALE_NODE_RANK)");
      runner("master_addr=" + (is_set() ? "null" : master()));
      runner(fmt::format("master_port={}", kMasterPort));
    }
    if (job_.task == "serve" && job_.port > 0)
      words.push_back("++serve.0.engine_args.host=0.0.0.0");  // for the service and its probes
    words.push_back("++action=run");                          // the configuration may be that of a dry run
    return words;
  }

  ManifestJson container(Part part) const {
    ManifestJson command = {options_.program, "run",           "--config-path",
                            "/etc/flagscale", "--config-name", "job"};
    for (const std::string& word : overrides()) command.push_back(word);
    ManifestJson mounts =
        ManifestJson::array({{{"name", "configuration"}, {"mountPath", "/etc/flagscale"}, {"readOnly", true}},
                             {{"name", "shared-memory"}, {"mountPath", "/dev/shm"}}});
    for (const auto& [path, claim] : options_.volumes)
      mounts.push_back({{"name", kubernetes_name(claim)}, {"mountPath", path}});
    ManifestJson container = {{"name", "flagscale"},  {"image", options_.image},  {"command", command},
                              {"env", environment()}, {"resources", resources()}, {"volumeMounts", mounts}};
    if (job_.port > 0 && (part == Part::kServer || part == Part::kLeader)) {
      container["ports"] = ManifestJson::array({{{"name", "http"}, {"containerPort", job_.port}}});
      container["readinessProbe"] = {{"httpGet", {{"path", "/health"}, {"port", "http"}}},
                                     {"periodSeconds", 5}};
      container["startupProbe"] = {{"httpGet", {{"path", "/health"}, {"port", "http"}}},
                                   {"periodSeconds", 5},
                                   {"failureThreshold", 360}};  // large weights take their time
    }
    return container;
  }

  ManifestJson pod(Part part) const {
    ManifestJson memory = {{"medium", "Memory"}};
    if (!options_.shared_memory.empty()) memory["sizeLimit"] = options_.shared_memory;
    ManifestJson volumes = ManifestJson::array({{{"name", "configuration"}, {"configMap", {{"name", name_}}}},
                                                {{"name", "shared-memory"}, {"emptyDir", memory}}});
    for (const auto& [path, claim] : options_.volumes)
      if (std::none_of(volumes.begin(), volumes.end(),
                       [&](const ManifestJson& one) { return one["name"] == kubernetes_name(claim); }))
        volumes.push_back(
            {{"name", kubernetes_name(claim)}, {"persistentVolumeClaim", {{"claimName", claim}}}});
    ManifestJson spec = {{"containers", ManifestJson::array({container(part)})},
                         {"volumes", volumes},
                         {"terminationGracePeriodSeconds", 60}};  // a checkpoint is saved on SIGTERM
    if (job_.nodes > 1 && part == Part::kNode) spec["subdomain"] = name_;
    if (!options_.service_account.empty()) spec["serviceAccountName"] = options_.service_account;
    if (!options_.node_selector.empty()) spec["nodeSelector"] = options_.node_selector;
    return {{"metadata", {{"labels", labels(part)}}}, {"spec", spec}};
  }

  // A node that fails ends the others too, which then fail: a restart of the job costs as many pods as it
  // has.
  ManifestJson job_spec() const {
    ManifestJson template_ = pod(Part::kNode);
    template_["spec"]["restartPolicy"] = "Never";
    return {{"completionMode", "Indexed"},
            {"completions", job_.nodes},
            {"parallelism", job_.nodes},
            {"backoffLimit", options_.kind == "JobSet" ? 0 : job_.max_restarts * job_.nodes},
            {"template", template_}};
  }

  // A set starts all of its jobs anew when one fails, which is what max_restarts means.
  ManifestJson job_set() const {
    const ManifestJson replicated = {
        {"name", "nodes"}, {"replicas", 1}, {"template", {{"spec", job_spec()}}}};
    return {{"apiVersion", "jobset.x-k8s.io/v1alpha2"},
            {"kind", "JobSet"},
            {"metadata", metadata()},
            {"spec",
             {{"network",
               {{"enableDNSHostnames", true}, {"subdomain", name_}, {"publishNotReadyAddresses", true}}},
              {"failurePolicy", {{"maxRestarts", job_.max_restarts}}},
              {"replicatedJobs", ManifestJson::array({replicated})}}}};
  }

  ManifestJson deployment() const {
    return {{"apiVersion", "apps/v1"},
            {"kind", "Deployment"},
            {"metadata", metadata()},
            {"spec",
             {{"replicas", 1}, {"selector", {{"matchLabels", labels()}}}, {"template", pod(Part::kServer)}}}};
  }

  // The leader is number 0, the workers 1 and more: sets of their own, for it alone has a port and probes.
  // All start at once, whichever is ready.
  ManifestJson stateful_set(Part part) const {
    const bool leads = part == Part::kLeader;
    ManifestJson spec = {{"replicas", leads ? 1 : job_.nodes - 1},
                         {"serviceName", nodes_name()},
                         {"podManagementPolicy", "Parallel"},
                         {"selector", {{"matchLabels", labels(part)}}},
                         {"template", pod(part)}};
    if (!leads) spec["ordinals"] = {{"start", 1}};
    return {{"apiVersion", "apps/v1"},
            {"kind", "StatefulSet"},
            {"metadata", metadata(leads ? name_ : name_ + "-workers")},
            {"spec", spec}};
  }

  // A pod that fails takes its group along, and all of it starts anew.
  ManifestJson leader_worker_set() const {
    return {{"apiVersion", "leaderworkerset.x-k8s.io/v1"},
            {"kind", "LeaderWorkerSet"},
            {"metadata", metadata()},
            {"spec",
             {{"replicas", 1},
              {"leaderWorkerTemplate",
               {{"size", job_.nodes},
                {"restartPolicy", "RecreateGroupOnPodRestart"},
                {"leaderTemplate", pod(Part::kLeader)},
                {"workerTemplate", pod(Part::kWorker)}}}}}};
  }

  const BatchJob& job_;
  const KubernetesOptions& options_;
  std::string name_;
};

}  // namespace

std::string kubernetes_name(const std::string& text) {
  std::string name;
  for (const char c : text) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (plain) name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (!plain && !name.empty() && name.back() != '-') name += '-';
  }
  name.resize(std::min(name.size(), kLongestName));
  while (name.ends_with('-')) name.pop_back();
  if (name.empty())
    fail(ErrorKind::kConfig, "experiment.exp_name is '{}': Kubernetes' names need a letter or a digit", text);
  return std::isdigit(static_cast<unsigned char>(name[0])) != 0 ? "job-" + name : name;
}

std::string kubernetes_manifest(const BatchJob& job, const KubernetesOptions& options) {
  return Manifest(job, options).list().dump(2) + "\n";
}

}  // namespace flagscale::launch
