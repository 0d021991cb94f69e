// Kubernetes, by kubectl.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "launch/launcher/batch_system.h"
#include "launch/launcher/child.h"
#include "launch/launcher/kubernetes_manifest.h"

namespace flagscale::launch {

namespace {

constexpr const char* kDeleted = "deleted";

std::string reason_of(const Finished& finished) {
  const auto lines = lines_of(finished.err);
  return lines.empty() ? fmt::format("exit code {}", finished.exit_code) : lines.back();
}

// Ids are KIND/NAME, as kubectl writes them.
class KubernetesBatch : public BatchSystem {
 public:
  explicit KubernetesBatch(const LauncherOptions& options) : options_(options.kubernetes) {
    if (options_.kind != "Job" && options_.kind != "JobSet" && options_.kind != "LeaderWorkerSet")
      fail(ErrorKind::kConfig,
           "experiment.runner.kubernetes.kind is '{}', expected Job, JobSet or LeaderWorkerSet",
           options_.kind);
  }

  std::vector<BatchFile> files(const BatchJob& job) const override {
    if (options_.image.empty())
      fail(ErrorKind::kConfig,
           "experiment.runner.kubernetes.image is not set: the image that nodes run, with this program at {}",
           options_.program);
    const bool serves = job.task == "serve";
    if (serves && job.nodes > 1 && job.is_native)
      fail(ErrorKind::kUnsupported,
           "experiment.runner.nnodes is {}: this program serves on one node; --engine vllm, sglang or yaml "
           "serves "
           "on more",
           job.nodes);
    if (options_.kind == (serves ? "JobSet" : "LeaderWorkerSet"))
      fail(ErrorKind::kConfig, "experiment.runner.kubernetes.kind is {}: that is for {}", options_.kind,
           serves ? "jobs that end, and this one serves" : "services, and this job ends");
    return {{job.log / "scripts" / "kubernetes.json", kubernetes_manifest(job, options_)}};
  }

  std::string submit(const BatchJob& job) const override {
    const auto manifests = files(job);
    write_batch_files(manifests);
    const Finished finished = kubectl({"create", "-f", manifests[0].path, "-o", "name"});
    const auto lines = lines_of(finished.out);  // the last is what runs
    if (finished.exit_code != 0) {
      for (const std::string& made : lines) kubectl({"delete", made, "--wait=false"});
      std::string what_to_do;
      if (finished.err.find("dial tcp") != std::string::npos)
        what_to_do =
            "; no cluster answers: `kubectl cluster-info` shows which one is asked, KUBECONFIG names another";
      if (finished.err.find("AlreadyExists") != std::string::npos)
        what_to_do = fmt::format(
            "; it is there from before: action=stop ends it, or kubectl --namespace {} delete "
            "all,configmap -l app.kubernetes.io/instance={}",
            options_.space, kubernetes_name(job.name));
      fail(ErrorKind::kResource, "kubectl refuses {}: {}{}", manifests[0].path.string(), reason_of(finished),
           what_to_do);
    }
    return lines.empty() ? "" : lines.back();
  }

  BatchState state(const std::string& id) const override {
    const Finished finished = kubectl({"get", id, "-o", "json"});
    if (finished.exit_code != 0 && finished.err.find("NotFound") != std::string::npos)
      return {BatchState::Phase::kEnded, 1, kDeleted};
    const nlohmann::json object = nlohmann::json::parse(finished.out, nullptr, false);
    if (finished.exit_code != 0 || !object.is_object())
      return {BatchState::Phase::kWaiting, 0, "the cluster does not answer: " + reason_of(finished)};
    const nlohmann::json status = object.value("status", nlohmann::json::object());
    for (const nlohmann::json& condition : status.value("conditions", nlohmann::json::array())) {
      const std::string type = condition.value("type", "");
      if (condition.value("status", "") != "True") continue;
      if (type == "Complete" || type == "Completed") return {BatchState::Phase::kEnded, 0, "complete"};
      if (type == "Failed")
        return {BatchState::Phase::kEnded, 1, "failed: " + condition.value("message", "")};
    }
    const int active = status.value("active", status.value("replicas", 0)),
              ready = status.value("ready", status.value("readyReplicas", 0));
    if (ready > 0) return {BatchState::Phase::kRunning, 0, fmt::format("{} pods run", ready)};
    return {BatchState::Phase::kWaiting, 0, fmt::format("{} pods wait", active)};
  }

  // What belongs to it (its pods, its configuration by the label) goes with it.
  void cancel(const std::string& id) const override {
    const std::string name = id.substr(id.find('/') + 1), selector = "app.kubernetes.io/instance=" + name;
    const Finished finished = kubectl({"delete", id, "--cascade=foreground", "--wait=false"});
    if (finished.exit_code != 0)
      fail(ErrorKind::kResource, "kubectl does not delete {}: {}", id, reason_of(finished));
    kubectl({"delete", "service,configmap,statefulset", "-l", selector, "--wait=false"});
  }

  void clear(const std::string& id) const override {
    if (state(id).text != kDeleted) cancel(id);
  }

  std::string output(const BatchJob& job, const std::string&, size_t& place) const override {
    std::string selector = "app.kubernetes.io/instance=" + kubernetes_name(job.name);
    // The first node speaks for all.
    if (job.task != "serve") selector += ",batch.kubernetes.io/job-completion-index=0";
    if (job.task == "serve" && job.nodes > 1) selector += ",app.kubernetes.io/component=leader";
    const Finished finished = kubectl({"logs", "-l", selector, "--tail=-1"});
    if (finished.exit_code != 0) return {};
    if (finished.out.size() < place) place = 0;  // another pod has taken its place
    const std::string text = finished.out.substr(place);
    place = finished.out.size();
    return text;
  }

 private:
  Finished kubectl(std::vector<std::string> words) const {
    words.insert(words.begin(), {"kubectl", "--namespace", options_.space});
    try {
      return run_all({{words, {}, {}}}, std::chrono::seconds(60))[0];
    } catch (const Error& error) {
      fail(ErrorKind::kNotFound,
           "{}: submitting to Kubernetes needs kubectl; action=dryrun writes the manifests without it",
           error.what());
    }
  }

  KubernetesOptions options_;
};

const Registration<BatchKind> kKubernetes{
    "kubernetes", {"a job of Kubernetes", [](const LauncherOptions& options) -> std::unique_ptr<BatchSystem> {
                     return std::make_unique<KubernetesBatch>(options);
                   }}};

}  // namespace
}  // namespace flagscale::launch
