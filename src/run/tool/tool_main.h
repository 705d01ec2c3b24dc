/* The sallyport command: reads the command line, runs the subcommand, returns the exit status. */
#ifndef RUN_TOOL_TOOL_MAIN_H
#define RUN_TOOL_TOOL_MAIN_H

int tool_main(int argc, char **argv);

#endif
