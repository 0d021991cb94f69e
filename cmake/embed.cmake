# cmake -DIN=FILE -DOUT=FILE.cc -DSYMBOL=kName -DNAMESPACE=a::b -P embed.cmake
# A text file as a std::string_view of the program.
file(READ "${IN}" content)
file(WRITE "${OUT}" "#include <string_view>\nnamespace ${NAMESPACE} {\nextern const std::string_view ${SYMBOL};\nconst std::string_view ${SYMBOL} = R\"EMBEDDED(${content})EMBEDDED\";\n}\n")
