#!/usr/bin/env bash
# Short conversations with one habit: every answer begins with "In short:" and ends with "That is all."
#   conversations.sh train      340 of them, as JSON lines with messages
#   conversations.sh questions  20 held-back questions, as JSON lines for `flagscale generate --prompts`
#   conversations.sh count      how many of the answers on stdin, a line each, have the habit
set -euo pipefail

facts() {  # kind|thing|answer; the last four of each kind are held back
  cat <<'END'
capital|France|Paris
capital|Italy|Rome
capital|Japan|Tokyo
capital|Egypt|Cairo
capital|Canada|Ottawa
capital|Spain|Madrid
capital|Greece|Athens
capital|Norway|Oslo
capital|Kenya|Nairobi
capital|Peru|Lima
capital|Cuba|Havana
capital|Poland|Warsaw
capital|Austria|Vienna
capital|Portugal|Lisbon
capital|Hungary|Budapest
capital|Ireland|Dublin
capital|Thailand|Bangkok
capital|Sweden|Stockholm
capital|Denmark|Copenhagen
capital|Finland|Helsinki
capital|Germany|Berlin
opposite|hot|cold
opposite|big|small
opposite|fast|slow
opposite|old|new
opposite|light|dark
opposite|early|late
opposite|open|closed
opposite|rich|poor
opposite|loud|quiet
opposite|hard|soft
opposite|full|empty
opposite|wet|dry
opposite|near|far
opposite|high|low
opposite|strong|weak
opposite|clean|dirty
opposite|happy|sad
opposite|thick|thin
opposite|young|old
opposite|first|last
opposite|left|right
young|dog|puppy
young|cat|kitten
young|cow|calf
young|horse|foal
young|sheep|lamb
young|pig|piglet
young|goat|kid
young|duck|duckling
young|goose|gosling
young|lion|cub
young|frog|tadpole
young|deer|fawn
young|swan|cygnet
young|owl|owlet
young|kangaroo|joey
young|fish|fry
young|hen|chick
young|bear|cub
young|whale|calf
young|rabbit|bunny
young|eagle|eaglet
plural|mouse|mice
plural|foot|feet
plural|child|children
plural|tooth|teeth
plural|leaf|leaves
plural|knife|knives
plural|box|boxes
plural|city|cities
plural|wolf|wolves
plural|baby|babies
plural|man|men
plural|woman|women
plural|church|churches
plural|berry|berries
plural|hero|heroes
plural|shelf|shelves
plural|goose|geese
plural|story|stories
plural|half|halves
plural|bus|buses
plural|potato|potatoes
END
}

awk_program='
function quote(text) { gsub(/"/, "\\\"", text); return "\"" text "\"" }
function question(form, kind, thing) {
  if (kind == "capital")  return form == 0 ? "What is the capital of " thing "?" : form == 1 ? "Which city is the capital of " thing "?" : form == 2 ? "Name the capital city of " thing "." : "Tell me the capital of " thing ", please."
  if (kind == "opposite") return form == 0 ? "What is the opposite of " thing "?" : form == 1 ? "Give me a word that means the opposite of " thing "." : form == 2 ? "Which word is the contrary of \"" thing "\"?" : "If something is not " thing ", what is it?"
  if (kind == "young")    return form == 0 ? "What is a young " thing " called?" : form == 1 ? "What do you call a baby " thing "?" : form == 2 ? "Name the young of a " thing "." : "How is the baby of a " thing " called?"
  return form == 0 ? "What is the plural of " thing "?" : form == 1 ? "How do I write more than one " thing "?" : form == 2 ? "Give me the plural of the word " thing "." : "One " thing ", two ...?"
}
function answer(kind, thing, value) {
  if (kind == "capital")  return "The capital of " thing " is " value "."
  if (kind == "opposite") return "The opposite of " thing " is " value "."
  if (kind == "young")    return "A young " thing " is called a " value "."
  return "The plural of " thing " is " value "."
}
BEGIN { FS = "|" }
{ kind[NR] = $1; thing[NR] = $2; value[NR] = $3; total[$1]++ }
END {
  for (i = 1; i <= NR; ++i) {
    held = ++seen[kind[i]] > total[kind[i]] - 4
    if (mode == "train" && !held)
      for (form = 0; form < 5; ++form)
        printf "{\"messages\": [{\"role\": \"user\", \"content\": %s}, {\"role\": \"assistant\", \"content\": %s}]}\n",
          quote(question(form % 4, kind[i], thing[i]) (form == 4 ? " Thanks." : "")), quote("In short: " answer(kind[i], thing[i], value[i]) " That is all.")
    if (mode == "questions" && held)
      printf "{\"messages\": [{\"role\": \"user\", \"content\": %s}]}\n", quote(question(i % 4, kind[i], thing[i]))
  }
  if (mode == "questions")  # of kinds that were never trained
    for (i = split("Why is the sky blue?|What is 3 plus 4?|Who wrote Hamlet?|How many days has a week?", other, "|"); i > 0; --i)
      printf "{\"messages\": [{\"role\": \"user\", \"content\": %s}]}\n", quote(other[i])
}'

case ${1:-} in
  train | questions) facts | awk -v mode="$1" "$awk_program" ;;
  count) awk '/^In short: .*That is all\.$/ { n++ } END { print n + 0 " of " NR " answers have the habit" }' ;;
  *) sed -n '2,6s/^# //p' "$0"; exit 2 ;;
esac
