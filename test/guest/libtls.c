/* libtls.c - a library with thread-local data; as libplugin.so it is opened at run time. */
#ifdef PLUGIN
static __thread int counter = 2000;
int *plugin_counter(void) { return &counter; }
#else
static __thread int counter = 1000;
int *tls_counter(void) { return &counter; }
#endif
