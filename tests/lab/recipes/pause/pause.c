/*
 * Holds the namespaces of a pod: waits for a signal to end, and buries orphaned processes.
 *
 * "-v" prints a version and ends. kubeadm's upgrade check runs a Job with it; a program that does
 * not answer makes that check fail.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "unknown"
#endif

static void bury_children(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

int main(int argc, char **argv)
{
	sigset_t awaited;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-v") == 0) {
			printf("pause %s (perimeter lab)\n", VERSION);
			return 0;
		}
	}
	if (getpid() != 1)
		fputs("pause: not process 1 of a pod, orphans go elsewhere\n", stderr);

	/* Blocked, then awaited: no signal handler, so no race between a signal and pause(2). */
	sigemptyset(&awaited);
	sigaddset(&awaited, SIGINT);
	sigaddset(&awaited, SIGTERM);
	sigaddset(&awaited, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &awaited, NULL) != 0) {
		perror("pause: sigprocmask");
		return 1;
	}
	for (;;) {
		int received = sigwaitinfo(&awaited, NULL);
		if (received == SIGCHLD) {
			bury_children();
		} else if (received == SIGINT || received == SIGTERM) {
			return 0;
		} else if (received < 0 && errno != EINTR) {
			perror("pause: sigwaitinfo");
			return 2;
		}
	}
}
