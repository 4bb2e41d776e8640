import Glibc

/// Asks the kernel about this process.
public enum ProcessProbe {
    /// For `StatsRegistry.addProvider`.
    public static func addSamples(to samples: inout ScrapeSamples) {
        if let bytes = residentBytes() { samples.add(.serverMemoryPhysicalSize, bytes) }
        if let count = openDescriptors() { samples.add(.openDescriptors, count) }
    }

    /// Nil where /proc is not there.
    public static func residentBytes() -> Int? {
        residentPages().map { $0 * sysconf(CInt(_SC_PAGESIZE)) }
    }

    /// Of all threads, since the process began.
    public static func processorSeconds() -> Double {
        var time = timespec()
        guard unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0 else { return 0 }
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// The second number of /proc/self/statm.
    private static func residentPages() -> Int? {
        let descriptor = unsafe open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = unsafe read(descriptor, &bytes, bytes.count)
        guard count > 0 else { return nil }
        let numbers = bytes[..<count].split(separator: UInt8(ascii: " "))
        return numbers.count > 1 ? Int(String(decoding: numbers[1], as: UTF8.self)) : nil
    }

    private static func openDescriptors() -> Int? {
        guard let directory = unsafe opendir("/proc/self/fd") else { return nil }
        defer { unsafe closedir(directory) }
        var count = 0
        while unsafe readdir(directory) != nil { count += 1 }
        return max(0, count - 3)  // Two dots and the directory's own descriptor.
    }
}
