#include "net/request_parser.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>

namespace flagscale::net {

namespace http = boost::beast::http;

struct RequestParser::State {
  size_t max_header = 0, max_body = 0;
  std::optional<http::request_parser<http::string_body>> parser;
  size_t header_bytes = 0;
  int status = 0;
  std::string message;

  void start() {
    parser.emplace();
    parser->header_limit(static_cast<uint32_t>(max_header));
    parser->body_limit(max_body);
    header_bytes = 0;
  }

  void failed(const boost::system::error_code& error) {
    if (error == http::error::header_limit) {
      status = 431,
      message = "the request's headers are larger than " + std::to_string(max_header) + " bytes";
    } else if (error == http::error::body_limit) {
      status = 413, message = "the request's body is larger than " + std::to_string(max_body) + " bytes";
    } else {
      status = 400, message = "this is not an HTTP/1.1 request: " + error.message();
    }
  }
};

RequestParser::RequestParser(size_t max_header, size_t max_body) : state_(std::make_unique<State>()) {
  state_->max_header = max_header;
  state_->max_body = max_body;
  state_->start();
}

RequestParser::~RequestParser() = default;

size_t RequestParser::put(std::string_view data) {
  size_t taken = 0;
  while (taken < data.size() && progress() < Progress::kDone) {
    boost::system::error_code error;
    const bool in_header = !state_->parser->is_header_done();
    const size_t bytes =
        state_->parser->put(boost::asio::buffer(data.data() + taken, data.size() - taken), error);
    taken += bytes;
    if (error == http::error::need_more)
      break;  // the rest is kept by the caller and comes again with what follows
    if (error) {
      state_->failed(error);
      break;
    }
    // Beast hands the header back before it looks at the body.
    if (bytes == 0 && in_header == !state_->parser->is_header_done()) break;
  }
  return taken;
}

RequestParser::Progress RequestParser::progress() const {
  if (state_->status != 0) return Progress::kFailed;
  if (state_->parser->is_done()) return Progress::kDone;
  return state_->parser->is_header_done() ? Progress::kBody : Progress::kHeader;
}

bool RequestParser::expects_continue() const {
  return boost::beast::iequals(state_->parser->get()[http::field::expect], "100-continue");
}

int RequestParser::status() const { return state_->status; }
const std::string& RequestParser::message() const { return state_->message; }

Request RequestParser::take() {
  auto message = state_->parser->release();
  Request request;
  request.method = std::string(message.method_string());
  const std::string_view target(message.target().data(), message.target().size());
  const size_t query = target.find('?');
  request.path = target.substr(0, query);
  if (query != std::string_view::npos) request.query = target.substr(query + 1);
  for (const auto& field : message)
    request.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  request.body = std::move(message.body());
  request.keep_alive = message.keep_alive();
  request.chunks = message.version() >= 11;
  state_->start();
  return request;
}

}  // namespace flagscale::net
