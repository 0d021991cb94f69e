#include "launch/agent/messages.h"

#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

namespace flagscale::launch {

namespace {

using Json = nlohmann::json;

constexpr std::array kOrders{"start", "stop", "stacks", "tick"};
constexpr std::array kReports{"ready", "started", "refused", "exited", "gone", "beat", "stacks", "tick"};

template <class Kind, size_t N>
Kind kind_of(const Json& json, const std::array<const char*, N>& names) {
  const auto& name = json.at("kind").get_ref<const std::string&>();
  for (size_t i = 0; i < N; ++i)
    if (name == names[i]) return static_cast<Kind>(i);
  fail(ErrorKind::kCorrupt,
       "a launcher and its agent do not understand each other's '{}': are they of one version?", name);
}

Json command_json(const Command& command) {
  return {{"argv", command.argv}, {"env", command.env}, {"directory", command.directory.string()}};
}

Command read_command(const Json& json) {
  return {json.at("argv").get<std::vector<std::string>>(),
          json.at("env").get<std::map<std::string, std::string>>(), json.at("directory").get<std::string>()};
}

Json task_json(const NodeTask& task) {
  Json json{{"rank", task.rank},
            {"host", task.host.name},
            {"slots", task.host.slots},
            {"type", task.host.type},
            {"command", command_json(task.command)},
            {"prepare", Json::array()},
            {"output", task.output.string()}};
  for (const Command& command : task.prepare) json["prepare"].push_back(command_json(command));
  return json;
}

NodeTask read_task(const Json& json) {
  NodeTask task;
  task.rank = json.at("rank");
  task.host = {json.at("host"), json.at("slots"), json.at("type")};
  task.command = read_command(json.at("command"));
  for (const Json& command : json.at("prepare")) task.prepare.push_back(read_command(command));
  task.output = json.at("output").get<std::string>();
  return task;
}

template <class Read>
auto reading(std::string_view text, Read read) {
  try {
    return read(Json::parse(text));
  } catch (const Json::exception& error) {
    fail(ErrorKind::kCorrupt, "no message between a launcher and an agent: {}", error.what());
  }
}

}  // namespace

std::string to_json(const Order& order) {
  Json files = Json::array();
  for (const JobFile& file : order.files)
    files.push_back({{"path", file.path.string()}, {"text", file.text}});
  std::vector<std::string> folders(order.folders.begin(), order.folders.end());
  Json json{{"kind", kOrders.at(static_cast<size_t>(order.kind))}, {"attempt", order.attempt}};
  if (order.kind == Order::Kind::kStart)
    json.update({{"task", task_json(order.task)},
                 {"folders", folders},
                 {"files", files},
                 {"pid_file", order.pid_file.string()},
                 {"before_start", order.before_start},
                 {"after_stop", order.after_stop},
                 {"apart", order.apart},
                 {"lost_after", order.lost_after}});
  if (order.kind == Order::Kind::kStop) json.update({{"grace", order.grace}, {"by_user", order.by_user}});
  try {
    return json.dump();
  } catch (const Json::type_error&) {
    fail(ErrorKind::kInvalidArgument, "rank {}'s command has an argument, variable or path that is not UTF-8",
         order.task.rank);
  }
}

Order read_order(std::string_view text) {
  return reading(text, [](const Json& json) {
    Order order;
    order.kind = kind_of<Order::Kind>(json, kOrders);
    order.attempt = json.value("attempt", 0);
    if (order.kind == Order::Kind::kStart) {
      order.task = read_task(json.at("task"));
      for (const auto& folder : json.at("folders")) order.folders.emplace_back(folder.get<std::string>());
      for (const auto& file : json.at("files"))
        order.files.push_back({file.at("path").get<std::string>(), file.at("text").get<std::string>()});
      order.pid_file = json.at("pid_file").get<std::string>();
      order.before_start = json.at("before_start"), order.after_stop = json.at("after_stop");
      order.apart = json.at("apart"), order.lost_after = json.at("lost_after");
    }
    if (order.kind == Order::Kind::kStop) order.grace = json.at("grace"), order.by_user = json.at("by_user");
    return order;
  });
}

std::string to_json(const Report& report) {
  Json json{{"kind", kReports.at(static_cast<size_t>(report.kind))}, {"attempt", report.attempt}};
  if (report.process.pid != 0) json.update({{"pid", report.process.pid}, {"start", report.process.start}});
  const std::pair<const char*, const std::string&> texts[] = {{"host", report.host},
                                                              {"boot", report.boot},
                                                              {"cgroup", report.cgroup},
                                                              {"text", report.text},
                                                              {"phase", report.phase}};
  for (const auto& [name, text] : texts)
    if (!text.empty()) json[name] = text;
  if (report.kind == Report::Kind::kBeat) json["iteration"] = report.iteration;
  if (!report.metrics.empty()) json["metrics"] = report.metrics;
  if (report.kind == Report::Kind::kExited)
    json.update({{"code", report.status.code}, {"signal", report.status.signal}});
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Report read_report(std::string_view text) {
  return reading(text, [](const Json& json) {
    Report report;
    report.kind = kind_of<Report::Kind>(json, kReports);
    report.attempt = json.value("attempt", 0);
    report.process = {json.value("pid", 0), json.value("start", uint64_t{0})};
    report.host = json.value("host", ""), report.boot = json.value("boot", "");
    report.cgroup = json.value("cgroup", ""), report.text = json.value("text", "");
    report.phase = json.value("phase", ""), report.iteration = json.value("iteration", int64_t{0});
    if (const auto metrics = json.find("metrics"); metrics != json.end())
      for (const auto& [name, value] : metrics->items())  // JSON has no NaN: it is null
        report.metrics[name] =
            value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
    report.status = {json.value("code", 0), json.value("signal", 0)};
    return report;
  });
}

}  // namespace flagscale::launch
