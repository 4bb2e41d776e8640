import ArgumentParser
import Glibc
import MeshCompiler
import ProxyConfig

struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs the proxy of one node or gateway, and keeps it up to date with the files.",
        discussion: """
            Compiles the mesh, starts outrigger-proxy on the result and watches the files. A change that is valid is applied without \
            dropping a request; one that is not is reported, and the last good configuration keeps serving. A proxy that dies is \
            started again; one that was told to quit ends this too. SIGTERM and SIGINT drain the proxy (twice: end now), SIGUSR1 makes it reopen its access logs.

            EXAMPLES
              outrigger run -f mesh/ --node cart
              outrigger run -f mesh.yaml sidecars.yaml --node cart.shop
              outrigger run -f mesh/ --gateway edge --proxy ./outrigger-proxy

            Without interception, applications call their backends at 127.0.0.1:15001 with the service's name as Host, or with \
            http_proxy=http://127.0.0.1:15001; see docs/configuration.md.
            """)

    @OptionGroup var input: MeshInput
    @OptionGroup var subject: SubjectOptions

    @Option(help: ArgumentHelp("The proxy's executable (default: beside this one, then in PATH).", valueName: "path"))
    var proxy: String?

    func run() throws {
        let executable = try ProxyExecutable.find(proxy)
        let standardInput = try input.readStandardInput()
        var watch = FileWatch(paths: input.files)
        let first = try Rendering(input: input, subject: subject, standardInput: standardInput)
        for warning in first.warnings { Console.write(warning) }
        // From here on a signal must not end us before what we made is gone.
        Supervisor.holdSignals()
        let directory = try RuntimeDirectory()
        defer { directory.remove() }
        try directory.write(first.file)
        Console.say("\(first.subject.key): version \(first.version), \(first.node.snapshot.summary)")

        var supervisor = Supervisor(executable: executable, arguments: ["--snapshot", directory.snapshotPath])
        var current = first
        let status = supervisor.run {
            guard watch.hasChanged() else { return }
            guard let next = Self.reload(input, subject, standardInput) else { return }
            if next.file == current.file {
                Console.say("the files changed, the configuration did not (version \(current.version))")
            } else {
                do throws(Failure) {
                    try directory.write(next.file)
                } catch {
                    Console.say("\(error.message); keeping the last good configuration (version \(current.version))")
                    watch.forget()
                    return
                }
                let known = Set(current.warnings)
                for warning in next.warnings where !known.contains(warning) { Console.write(warning) }
                let changes = SnapshotChange(from: current.node.snapshot, to: next.node.snapshot)
                Console.say("applied version \(next.version) (\(changes))")
                current = next
            }
        }
        directory.remove()
        throw Failure(message: "", status: status)
    }

    /// Nil, with the errors told: what runs is better than nothing.
    private static func reload(_ input: MeshInput, _ subject: SubjectOptions, _ standardInput: String?) -> Rendering? {
        do {
            return try Rendering(input: input, subject: subject, standardInput: standardInput)
        } catch let failure as Failure {
            Console.say("\(failure.message); keeping the last good configuration")
        } catch {
            Console.say("\(error); keeping the last good configuration")
        }
        return nil
    }
}

extension Snapshot {
    /// `2 listeners, 3 routes, 2 clusters`.
    fileprivate var summary: String {
        let routes = routeConfigurations.reduce(0) { $0 + $1.virtualHosts.reduce(0) { $0 + $1.routes.count } }
        let addresses = listeners.map { "\($0.direction.rawValue) \($0.address)" }.joined(separator: ", ")
        return "\(counted(routes, "route")), \(counted(clusters.count, "cluster")), \(counted(listeners.count, "listener"))"
            + (addresses.isEmpty ? "" : " (\(addresses))") + ", admin \(process.adminAddress)"
    }
}
