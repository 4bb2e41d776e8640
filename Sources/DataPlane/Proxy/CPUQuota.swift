import Glibc

/// How many CPUs this process may use: its cgroup's quota, or the machine's CPUs.
///
/// A sidecar that starts a thread for each CPU of its host, where its quota is half of one, is throttled for it.
enum CPUQuota {
    /// 1 or 2: more only when it is asked for. A sidecar must not eat its host.
    static func defaultWorkers() -> Int {
        min(2, max(1, available()))
    }

    static func available() -> Int {
        let online = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        guard let quota = cgroupV2() ?? cgroupV1() else { return online }
        return min(online, max(1, Int(quota.rounded(.up))))
    }

    /// `cpu.max`: "200000 100000", or "max 100000" for none.
    private static func cgroupV2() -> Double? {
        guard let own = text("/proc/self/cgroup")?.split(separator: "\n").first(where: { $0.hasPrefix("0::") }) else { return nil }
        let path = own.dropFirst(3)
        guard let line = text("/sys/fs/cgroup\(path)/cpu.max") ?? text("/sys/fs/cgroup/cpu.max") else { return nil }
        let parts = line.split(whereSeparator: { $0 == " " || $0 == "\n" })
        guard parts.count == 2, let quota = Double(parts[0]), let period = Double(parts[1]), period > 0 else { return nil }
        return quota / period
    }

    private static func cgroupV1() -> Double? {
        guard let quota = number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), quota > 0,
            let period = number("/sys/fs/cgroup/cpu/cpu.cfs_period_us"), period > 0
        else { return nil }
        return quota / period
    }

    private static func number(_ path: String) -> Double? {
        text(path).flatMap { Double($0.prefix { $0 != "\n" }) }
    }

    private static func text(_ path: String) -> String? {
        (try? FileReader.read(path)).map { String(decoding: $0, as: UTF8.self) }
    }
}
