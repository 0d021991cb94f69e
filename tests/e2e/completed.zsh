# What a zsh with our completion makes of each line given, when Tab is pressed at its end: one line each.
zmodload zsh/zpty
zpty shell env -i HOME=/nonexistent PATH=$PATH TERM=dumb zsh -f -i
zpty -w shell "PROMPT= RPROMPT=; stty columns 1000
  autoload -U compinit; compinit -u -D; source <(flagscale completion zsh)
  unsetopt list_beep auto_menu
  show() { print -r -- \"LINE<\$BUFFER>\"; BUFFER= }; zle -N show; bindkey '^T' show; print RE''ADY"
zpty -r shell out '*READY*'
for line in "$@"; do
  zpty -w -n shell "$line"$'\t\x14'  # Tab, Ctrl-T
  zpty -r shell out '*LINE<*>*'
  out=${out##*LINE<}
  print -r -- "${out%%>*}"
done
zpty -d shell
