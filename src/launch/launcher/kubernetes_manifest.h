#pragma once
// The manifests of a job, in JSON, which kubectl takes as it takes YAML. Every pod runs this program on the
// same configuration, with runner.type cloud, and finds its part in the environment.

#include <string>

#include "launch/launcher/batch_system.h"

namespace flagscale::launch {

// A label of DNS, as every object's name is: "Aquila 7B" is aquila-7b. Error{kConfig} for a text without a
// letter or a digit.
std::string kubernetes_name(const std::string& text);

// A List: the configuration; a Service where pods look for the first, or clients for the server; and a Job, a
// JobSet; or a server: a Deployment, or over several nodes two StatefulSets or a LeaderWorkerSet.
// Error{kConfig} where devices are asked for that Kubernetes has no name for.
std::string kubernetes_manifest(const BatchJob& job, const KubernetesOptions& options);

}  // namespace flagscale::launch
