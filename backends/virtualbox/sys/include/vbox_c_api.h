/*
 * The C interface of VirtualBox's XPCOM library (VBoxXPCOMC), version 4.0 of its table, as far as it is binary: the
 * order and the types of what VBoxGetCAPIFunctions answers with. Written from its documented behaviour; the names of the
 * entries are those of VirtualBox's SDK. Nothing of the interfaces is here: their vtables come from the type library.
 *
 * Only types that every C compiler has are used, so that reading this needs no system headers.
 */
#ifndef STRATAVM_VBOX_C_API_H
#define STRATAVM_VBOX_C_API_H

/* A result code of XPCOM: the highest bit is set for failures. */
typedef unsigned int nsresult;
/* A unit of UTF-16. */
typedef unsigned short PRUnichar;

/* The id of an interface, its first three numbers in the order of the host. */
struct nsID {
    unsigned int m0;
    unsigned short m1;
    unsigned short m2;
    unsigned char m3[8];
};

/* Every object: a pointer to its vtable. */
struct nsISupports {
    const void *const *vtable;
};

/* An array that a method answers with: its elements, and how many. */
struct SAFEARRAY {
    void *pv;
    unsigned int c;
};

struct VBOXCAPI {
    /* Bytes of this table. */
    unsigned int cb;
    /* 0x0004xxxx: the table's version. */
    unsigned int uVersion;
    /* 1000000 * major + 1000 * minor + build. */
    unsigned int (*pfnGetVersion)(void);
    /* 1000 * major + minor. */
    unsigned int (*pfnGetAPIVersion)(void);

    nsresult (*pfnClientInitialize)(const char *iid, struct nsISupports **client);
    nsresult (*pfnClientThreadInitialize)(void);
    nsresult (*pfnClientThreadUninitialize)(void);
    void (*pfnClientUninitialize)(void);

    /* The older way in, which is not used. */
    void (*pfnComInitialize)(const char *iid, struct nsISupports **box, const char *session_iid,
                             struct nsISupports **session);
    void (*pfnComUninitialize)(void);

    void (*pfnComUnallocString)(PRUnichar *text);
    int (*pfnUtf16ToUtf8)(const PRUnichar *text, char **utf8);
    int (*pfnUtf8ToUtf16)(const char *utf8, PRUnichar **text);
    void (*pfnUtf8Free)(char *utf8);
    void (*pfnUtf16Free)(PRUnichar *text);

    struct SAFEARRAY *(*pfnSafeArrayCreateVector)(unsigned short type, int first, unsigned int count);
    struct SAFEARRAY *(*pfnSafeArrayOutParamAlloc)(void);
    nsresult (*pfnSafeArrayCopyInParamHelper)(struct SAFEARRAY *array, const void *elements,
                                              unsigned int bytes);
    nsresult (*pfnSafeArrayCopyOutParamHelper)(void **elements, unsigned int *bytes,
                                               unsigned short type, struct SAFEARRAY *array);
    nsresult (*pfnSafeArrayCopyOutIfaceParamHelper)(struct nsISupports ***objects,
                                                    unsigned int *count, struct SAFEARRAY *array);
    nsresult (*pfnSafeArrayDestroy)(struct SAFEARRAY *array);
    nsresult (*pfnArrayOutFree)(void *elements);

    nsresult (*pfnGetEventQueue)(struct nsISupports **queue);
    nsresult (*pfnGetException)(struct nsISupports **exception);
    nsresult (*pfnClearException)(void);
    int (*pfnProcessEventQueue)(long long milliseconds);
    int (*pfnInterruptEventQueueProcessing)(void);
    void (*pfnUtf8Clear)(char *utf8);
    void (*pfnUtf16Clear)(PRUnichar *text);

    /* uVersion again: the end of the table is where it is expected. */
    unsigned int uEndVersion;
};

typedef const struct VBOXCAPI *(*PFNVBOXGETCAPIFUNCTIONS)(unsigned int version);

#endif
