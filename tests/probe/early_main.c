/* A program that needs the library `early`, and does nothing else. */
extern int early_reuseport;

int main(void) { return early_reuseport < 0; }
