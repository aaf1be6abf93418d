//! Holes on Windows: asked for and made with control codes of the volume. A volume that does not know them is one
//! without holes: everything may be data, and zeros are written.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::windows::io::AsRawHandle as _;
use windows_sys::Win32::Foundation::{
    ERROR_INVALID_FUNCTION, ERROR_MORE_DATA, ERROR_NOT_SUPPORTED,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_COMPRESSION_INFO, FileCompressionInfo, GetFileInformationByHandleEx,
};
use windows_sys::Win32::System::IO::DeviceIoControl;
use windows_sys::Win32::System::Ioctl::{
    FILE_ALLOCATED_RANGE_BUFFER, FILE_ZERO_DATA_INFORMATION, FSCTL_QUERY_ALLOCATED_RANGES,
    FSCTL_SET_SPARSE, FSCTL_SET_ZERO_DATA,
};

/// Ranges that are asked for in one call.
const RANGES: usize = 64;

/// NTFS gives a file holes only once it is marked.
pub(in super::super) fn make_sparse(file: &File) -> io::Result<()> {
    control::<(), ()>(file, FSCTL_SET_SPARSE, None, &mut []).map(drop)
}

/// Gives the blocks of a sparse file back; of another one the volume writes zeros itself.
pub(in super::super) fn zero(file: &File, at: u64, len: u64) -> io::Result<()> {
    let range = FILE_ZERO_DATA_INFORMATION {
        FileOffset: signed(at)?,
        BeyondFinalZero: signed(at.saturating_add(len))?,
    };
    match control::<_, ()>(file, FSCTL_SET_ZERO_DATA, Some(&range), &mut []) {
        Err(error) if is_refusal(&error) => super::zero_by_hand(file, at, len),
        done => done.map(drop),
    }
}

/// Bytes that a file takes on its volume.
pub(in super::super) fn allocated_of(file: &File) -> Option<u64> {
    let mut found = FILE_COMPRESSION_INFO::default();
    // SAFETY: the handle is open for the whole call; `found` outlives it, and its size and class are those of its type.
    let ok = unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            FileCompressionInfo,
            (&raw mut found).cast(),
            size_of::<FILE_COMPRESSION_INFO>() as u32,
        )
    };
    (ok != 0)
        .then(|| u64::try_from(found.CompressedFileSize).ok())
        .flatten()
}

/// The first byte at or behind `offset` that is in no hole; `None` if there is none.
pub(in super::super) fn next_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
    match ranges(file, offset) {
        Err(error) if is_refusal(&error) => Ok(Some(offset)),
        found => Ok(found?.first().map(|(start, _)| *start)),
    }
}

/// The first byte at or behind `offset` that is in a hole; the end of the file if there is none.
pub(in super::super) fn next_hole(file: &File, offset: u64) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let mut at = offset;
    loop {
        let found = match ranges(file, at) {
            Err(error) if is_refusal(&error) => return Ok(len),
            found => found?,
        };
        let before = at;
        for (start, end) in &found {
            match *start <= at {
                true => at = at.max(*end),
                false => return Ok(at),
            }
        }
        // As many as were asked for: there may be more.
        if found.len() < RANGES || at == before || at >= len {
            return Ok(at.min(len.max(offset)));
        }
    }
}

/// The first ranges from `offset` on that have blocks, as their first bytes and their ends, in order.
fn ranges(file: &File, offset: u64) -> io::Result<Vec<(u64, u64)>> {
    let len = file.metadata()?.len();
    let asked = FILE_ALLOCATED_RANGE_BUFFER {
        FileOffset: signed(offset)?,
        Length: signed(len.saturating_sub(offset))?,
    };
    if asked.Length == 0 {
        return Ok(Vec::new());
    }
    let mut found = [FILE_ALLOCATED_RANGE_BUFFER::default(); RANGES];
    let code = FSCTL_QUERY_ALLOCATED_RANGES;
    let returned = control(file, code, Some(&asked), &mut found)?;
    let count = returned / size_of::<FILE_ALLOCATED_RANGE_BUFFER>();
    let found = found.iter().take(count).map(|range| {
        let start = u64::try_from(range.FileOffset).unwrap_or(0).max(offset);
        let length = u64::try_from(range.Length).unwrap_or(0);
        let end = u64::try_from(range.FileOffset).unwrap_or(0) + length;
        (start, end.max(start))
    });
    Ok(found.collect())
}

/// Sends a control code; how many bytes came back. A buffer that is too small for all there is, is filled.
fn control<I, O>(file: &File, code: u32, input: Option<&I>, output: &mut [O]) -> io::Result<usize> {
    let mut returned = 0;
    let input_size = input.map_or(0, |_| size_of::<I>()) as u32;
    let input = input.map_or(std::ptr::null(), |input| (&raw const *input).cast());
    // SAFETY: the handle is open for the whole call and was not opened for overlapped I/O, so the call is over when it
    // returns; `input` and `output` outlive it, their sizes are those given, and the codes used here take and give plain
    // integers, for which any bits are valid. Without an input or output a length of 0 allows any pointer.
    let ok = unsafe {
        DeviceIoControl(
            file.as_raw_handle(),
            code,
            input,
            input_size,
            output.as_mut_ptr().cast(),
            size_of_val(output) as u32,
            &mut returned,
            std::ptr::null_mut(),
        )
    };
    if ok == 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(ERROR_MORE_DATA as i32) {
            return Err(error);
        }
    }
    Ok(returned as usize)
}

fn signed(value: u64) -> io::Result<i64> {
    i64::try_from(value).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Whether the volume does not know the control code.
fn is_refusal(error: &io::Error) -> bool {
    [ERROR_INVALID_FUNCTION, ERROR_NOT_SUPPORTED]
        .iter()
        .any(|code| error.raw_os_error() == Some(*code as i32))
}
