#include "net/response_parser.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <limits>

#include "base/error.h"

namespace flagscale::net {

namespace http = boost::beast::http;

struct ResponseParser::State {
  http::response_parser<http::string_body> parser;
};

ResponseParser::ResponseParser(bool without_body) : state_(std::make_unique<State>()) {
  state_->parser.header_limit(256 << 10);
  state_->parser.body_limit(std::numeric_limits<uint64_t>::max());
  state_->parser.skip(without_body);
}
ResponseParser::~ResponseParser() = default;

size_t ResponseParser::put(std::string_view data, const std::function<void(std::string_view)>& body) {
  size_t taken = 0;
  while (taken < data.size() && !done()) {
    boost::system::error_code error;
    const size_t bytes =
        state_->parser.put(boost::asio::buffer(data.data() + taken, data.size() - taken), error);
    taken += bytes;
    std::string& received = state_->parser.get().body();
    if (!received.empty()) body(received);
    received.clear();
    if (error == http::error::need_more) break;
    if (error) fail(ErrorKind::kCorrupt, "the server's answer is not HTTP: {}", error.message());
    if (state_->parser.get().result_int() == 100 && done()) {  // "Continue": the answer proper follows
      state_ = std::make_unique<State>();
      state_->parser.body_limit(std::numeric_limits<uint64_t>::max());
    }
  }
  return taken;
}

void ResponseParser::end_of_input() {
  boost::system::error_code error;
  if (state_->parser.got_some()) state_->parser.put_eof(error);  // Beast checks that there was something
  if (error || !done())
    fail(ErrorKind::kCorrupt, "the server closed the connection before its answer was complete");
}

bool ResponseParser::head_done() const { return state_->parser.is_header_done(); }
bool ResponseParser::done() const { return state_->parser.is_done(); }
bool ResponseParser::keep_alive() const { return state_->parser.keep_alive(); }

Response ResponseParser::head() const {
  Response response;
  const auto& message = state_->parser.get();
  response.status = static_cast<int>(message.result_int());
  response.content_type = std::string(message[http::field::content_type]);
  for (const auto& field : message)
    response.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  return response;
}

}  // namespace flagscale::net
