/* The program: all of it is in libraries, see tool_main.h. */
#include "tool_main.h"

int main(int argc, char **argv)
{
    return tool_main(argc, argv);
}
