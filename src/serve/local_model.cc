#include "serve/local_model.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <utility>

#include "serve/api_error.h"
#include "serve/context.h"
#include "serve/router.h"

namespace flagscale::serve {

namespace {

constexpr auto kPatience = std::chrono::milliseconds(100);

// What an answer's parts are handed over through: any thread posts, the one that asked runs.
class Mailbox {
 public:
  void post(std::function<void()> work) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return;
      waiting_.push_back(std::move(work));
    }
    wake_.notify_one();
  }
  // Runs what waits, after a while at most; false when nothing came.
  bool run() {
    std::deque<std::function<void()>> work;
    {
      std::unique_lock lock(mutex_);
      if (!wake_.wait_for(lock, kPatience, [this] { return !waiting_.empty(); })) return false;
      work.swap(waiting_);
    }
    for (const auto& one : work) one();
    return true;
  }
  void close() {
    std::deque<std::function<void()>> dropped;  // freed without the lock: an exchange's end posts
    const std::lock_guard lock(mutex_);
    closed_ = true;
    dropped.swap(waiting_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> waiting_;
  bool closed_ = false;
};

// Of the thread that asked.
struct Answer {
  net::Response response;
  std::string fresh;  // of the body
  std::function<void()> disconnected;
  bool done = false, gone = false;
};

class LocalExchange final : public net::Exchange, public std::enable_shared_from_this<LocalExchange> {
 public:
  LocalExchange(net::Request request, std::shared_ptr<Mailbox> mailbox, std::shared_ptr<Answer> answer)
      : request_(std::move(request)), mailbox_(std::move(mailbox)), answer_(std::move(answer)) {}
  ~LocalExchange() override {
    mailbox_->post([answer = answer_] {
      if (!std::exchange(answer->done, true))
        answer->response = error_response(500, "the request was dropped");
    });
  }

  const net::Request& request() const override { return request_; }
  void respond(net::Response response) override {
    mailbox_->post([answer = answer_, response = std::move(response)]() mutable {
      if (std::exchange(answer->done, true)) return;
      answer->fresh = std::move(response.body);
      answer->response = std::move(response);
    });
  }
  void begin(net::Response head) override {
    mailbox_->post(
        [answer = answer_, head = std::move(head)]() mutable { answer->response = std::move(head); });
  }
  void write(std::string data) override {
    mailbox_->post([answer = answer_, data = std::move(data)] { answer->fresh += data; });
  }
  void end() override {
    mailbox_->post([answer = answer_] { answer->done = true; });
  }
  size_t unsent() const override { return 0; }
  void post(std::function<void()> work) override {
    mailbox_->post([self = shared_from_this(), work = std::move(work)] { work(); });
  }
  void on_disconnect(std::function<void()> call) override {
    mailbox_->post(
        [answer = answer_, call = std::move(call)]() mutable { answer->disconnected = std::move(call); });
  }

 private:
  const net::Request request_;
  const std::shared_ptr<Mailbox> mailbox_;
  const std::shared_ptr<Answer> answer_;
};

}  // namespace

struct LocalModel::State {
  State(ServiceConfig c, engine::LoadedModel loaded, std::unique_ptr<engine::Engine> engine)
      : config(std::move(c)),
        model(describe_model(std::move(loaded), config, engine->runner().options().max_length)),
        service(std::move(engine), {static_cast<int>(config.max_queued_requests)}),
        context{config, model, service, workers},
        handler(make_router(context)) {}

  const ServiceConfig config;
  const ServedModel model;
  engine::Service service;
  WorkPool workers{1, 1};
  Context context;
  net::Handler handler;
};

LocalModel::LocalModel(ServiceConfig config, engine::LoadedModel model,
                       std::unique_ptr<engine::Engine> engine)
    : state_(std::make_unique<State>(std::move(config), std::move(model), std::move(engine))) {}
LocalModel::~LocalModel() = default;

const std::string& LocalModel::name() const { return state_->model.names[0]; }

net::Response LocalModel::request(const std::string& method, const std::string& path, std::string body,
                                  const std::function<bool(std::string_view)>& piece) {
  const auto mailbox = std::make_shared<Mailbox>();
  const auto answer = std::make_shared<Answer>();
  net::Request request{method, path, {}, {{"Content-Type", "application/json"}}, std::move(body), "local"};
  state_->handler(std::make_shared<LocalExchange>(std::move(request), mailbox, answer));
  std::exception_ptr thrown;
  try {
    while (!answer->gone && !answer->done) {
      mailbox->run();
      answer->gone = !piece(std::exchange(answer->fresh, {}));
    }
  } catch (...) {
    thrown = std::current_exception();
    answer->gone = true;
  }
  // Who breaks off waits until it is known what is to be cancelled.
  while (!answer->done && answer->gone && !answer->disconnected) mailbox->run();
  if (const auto call = std::exchange(answer->disconnected, nullptr); call && answer->gone) call();
  mailbox->close();
  if (thrown) std::rethrow_exception(thrown);
  return answer->response;
}

}  // namespace flagscale::serve
