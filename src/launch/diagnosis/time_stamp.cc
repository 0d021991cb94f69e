#include "launch/diagnosis/time_stamp.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "launch/diagnosis/line_match.h"

namespace flagscale::launch {

namespace {

constexpr size_t kLookedThrough = 100;

// Reads what stands before a time of day, and after it, from fixed places.
class Reader {
 public:
  explicit Reader(std::string_view text, size_t at) : text_(text), at_(at) {}

  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool take(char c) { return peek() == c && ++at_; }
  // A number of exactly so many digits; -1 if there is none.
  int number(int digits) {
    int value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      if (!is_digit(peek())) return -1;
      value = value * 10 + (peek() - '0');
    }
    return value;
  }
  bool number(int digits, int& value) { return (value = number(digits), value >= 0); }
  double fraction() {
    double value = 0, scale = 0.1;
    if ((peek() != '.' && peek() != ',') || !is_digit(peek(1))) return 0;
    for (++at_; is_digit(peek()); ++at_, scale /= 10) value += scale * (peek() - '0');
    return value;
  }

 private:
  std::string_view text_;
  size_t at_;
};

struct Date {
  int year = 0, month = 0, day = 0;
};

std::optional<double> seconds(const Date& date, int hour, int minute, int second) {
  const std::chrono::year_month_day day{std::chrono::year(date.year),
                                        std::chrono::month(static_cast<unsigned>(date.month)),
                                        std::chrono::day(static_cast<unsigned>(date.day))};
  if (!day.ok() || hour > 23 || minute > 59 || second > 60) return std::nullopt;
  const double days = static_cast<double>(std::chrono::sys_days(day).time_since_epoch().count());
  return days * 86400 + hour * 3600 + minute * 60 + second;
}

// +08:00, -0500, Z or nothing, in seconds.
double zone(Reader reader) {
  const bool minus = reader.peek() == '-';
  if (!reader.take('+') && !reader.take('-')) return 0;
  const int hours = reader.number(2);
  reader.take(':');
  const int minutes = reader.number(2);
  if (hours < 0 || minutes < 0) return 0;
  return (minus ? -1 : 1) * (hours * 3600 + minutes * 60);
}

// The date whose last character stands before `end`, one separator between it and the time.
std::optional<Date> date_before(std::string_view line, size_t end, int year) {
  if (end < 5) return std::nullopt;
  if (end >= 10) {
    Reader reader(line, end - 10);
    Date date;
    if (reader.number(4, date.year)) {
      const char mark = reader.peek();
      if ((reader.take('-') || reader.take('/')) && reader.number(2, date.month) && reader.take(mark) &&
          reader.number(2, date.day))
        return date;
    }
  }
  Date date{year, 0, 0};
  Reader dashed(line, end - 5);
  if (dashed.number(2, date.month) && dashed.take('-') && dashed.number(2, date.day)) return date;
  Reader glog(line, end - 4);
  const char level = line[end - 5];
  if (glog.number(2, date.month) && glog.number(2, date.day) &&
      std::string_view("IWEFD").find(level) != std::string_view::npos)
    return date;
  static constexpr std::array<std::string_view, 12> kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  if (end < 6) return std::nullopt;
  const auto month = std::find(kMonths.begin(), kMonths.end(), line.substr(end - 6, 3));
  if (month == kMonths.end()) return std::nullopt;
  date.month = static_cast<int>(month - kMonths.begin()) + 1;
  const char tens = line[end - 2], ones = line[end - 1];
  if ((tens != ' ' && !is_digit(tens)) || !is_digit(ones)) return std::nullopt;
  date.day = (tens == ' ' ? 0 : tens - '0') * 10 + (ones - '0');
  return date;
}

std::optional<double> stamp_at(std::string_view line, size_t colon, int year) {
  Reader reader(line, colon - 2);
  const int hour = reader.number(2);
  if (hour < 0 || !reader.take(':')) return std::nullopt;
  const int minute = reader.number(2);
  if (minute < 0 || !reader.take(':')) return std::nullopt;
  const int second = reader.number(2);
  if (second < 0 || colon < 3) return std::nullopt;
  const auto date = date_before(line, colon - 3, year);
  if (!date) return std::nullopt;
  const auto whole = seconds(*date, hour, minute, second);
  if (!whole) return std::nullopt;
  const double part = reader.fraction();
  return *whole + part - zone(reader);
}

}  // namespace

std::optional<double> time_stamp(std::string_view line, int year) {
  line = line.substr(0, kLookedThrough);
  for (size_t colon = line.find(':'); colon != std::string_view::npos; colon = line.find(':', colon + 1))
    if (colon >= 2 && is_digit(line[colon - 1]) && is_digit(line[colon - 2]))
      if (const auto stamp = stamp_at(line, colon, year)) return stamp;
  return std::nullopt;
}

}  // namespace flagscale::launch
