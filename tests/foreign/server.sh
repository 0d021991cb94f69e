# Sourced: start_server PROGRAM MODEL LOG [WORDS…] starts a server on a free port and sets base_url and server_pid.
start_server() {
  local program=$1 model=$2 log=$3
  shift 3
  : >"$log"  # there before it is looked at
  "$program" serve "$model" --port 0 "$@" >"$log" 2>&1 &
  server_pid=$!
  for _ in $(seq 600); do
    base_url=$(sed -n 's/^Serving .* at \(http[^ ]*\) .*/\1/p' "$log")
    [ -z "$base_url" ] || return 0
    kill -0 "$server_pid" 2>/dev/null || break
    sleep 0.1
  done
  cat "$log" >&2
  return 1
}

# The server ends in order, or this fails.
stop_server() {
  kill -TERM "$server_pid"
  wait "$server_pid"
}
