/*
 * Takes the place of VBoxHeadless in the rig, where there is no kernel driver.
 *
 * The program that VirtualBox ships starts nothing without /dev/vboxdrv. The same machine runs in VBoxHeadless.so once
 * the runtime was told that it may go without the driver; the guest's processor is then VirtualBox's own interpreter.
 * Everything else is the product's: devices, firmware, disks, settings.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

#define FOLDER "/usr/lib/virtualbox/"

/* Values of the runtime's interface (RTR3InitEx). */
enum {
    RUNTIME_INTERFACE = 2,
    TRY_DRIVER = 1 << 17,
    DRIVER_FLAGS_SHIFT = 18,
    WITHOUT_DRIVER = 4,
    INTERPRETER_ALLOWED = 8
};

typedef int init_fn(uint32_t interface, uint32_t flags, int argc, char ***argv, const char *program);
typedef int main_fn(int argc, char **argv, char **envp);

static void *symbol(const char *library, const char *name)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    void *found = handle ? dlsym(handle, name) : NULL;
    if (!found)
        fprintf(stderr, "rig: %s\n", dlerror());
    return found;
}

int main(int argc, char **argv, char **envp)
{
    uint32_t flags = TRY_DRIVER | (WITHOUT_DRIVER | INTERPRETER_ALLOWED) << DRIVER_FLAGS_SHIFT;
    init_fn *init = (init_fn *)symbol(FOLDER "VBoxRT.so", "RTR3InitEx");
    if (!init)
        return 2;
    int status = init(RUNTIME_INTERFACE, flags, 0, NULL, FOLDER "VBoxHeadless");
    if (status < 0) {
        fprintf(stderr, "rig: VirtualBox's runtime does not start: %d\n", status);
        return 2;
    }
    main_fn *machine = (main_fn *)symbol(FOLDER "VBoxHeadless.so", "TrustedMain");
    return machine ? machine(argc, argv, envp) : 2;
}
