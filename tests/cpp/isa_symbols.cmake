# Fails unless each object of an instruction set stands alone: cmake -DNM=nm "-DOBJECTS=a.o;b.o" -P isa_symbols.cmake
#
# No weak symbol, for which the linker could put one instruction set's copy into another's place, and nothing called
# that could differ from machine to machine: the only names from outside are those that compilers themselves use.
foreach(object IN LISTS OBJECTS)
    execute_process(COMMAND ${NM} --format=posix ${object} OUTPUT_VARIABLE lines COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCHALL "[^\n]+ [WwVvu]( [^\n]*)?\n" weak "${lines}")
    string(REGEX MATCHALL "[^\n]+ U[^\n]*\n" outside "${lines}")
    list(FILTER outside EXCLUDE REGEX "^(memcpy|memmove|memset|memcmp|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail) ")
    if(weak OR outside)
        message(FATAL_ERROR "${object}\nweak: ${weak}\nfrom outside: ${outside}")
    endif()
    if(NOT lines MATCHES "5tableE [DR]")
        message(FATAL_ERROR "${object} has no table of kernels:\n${lines}")
    endif()
endforeach()
