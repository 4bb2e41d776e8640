import Glibc

/// Asks the kernel about this process.
public enum ProcessProbe {
    /// For `StatsRegistry.addProvider`.
    public static func addSamples(to samples: inout ScrapeSamples) {
        if let pages = residentPages() { samples.add(.serverMemoryPhysicalSize, pages * sysconf(CInt(_SC_PAGESIZE))) }
        if let count = openDescriptors() { samples.add(.openDescriptors, count) }
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
